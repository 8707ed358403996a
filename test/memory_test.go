package test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/gateway/boot"
	"sallyport/test/harness"
	"sallyport/test/memscan"
)

// KEY-01, KEY-02: after ten thousand handshakes, sign-ins and assertions the gateway's memory holds nothing of any private
// key, and neither do its open files, environment and arguments lead to one.
func TestKEY01GatewayHoldsNoPrivateKey(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	exercise(t, s)
	shakeHands(t, s, 10_000)
	if finds := scan(t, s, gw); len(finds) > 0 {
		t.Errorf("the gateway holds %s", finds[0])
	}
	for _, name := range openFiles(t, gw) {
		if strings.HasPrefix(name, filepath.Join(s.Dir, "keys", "keys")) {
			t.Errorf("the gateway has %s open", name)
		}
	}
	gw.Signal(syscall.SIGQUIT) // it says where every goroutine is, with arguments
	harness.Eventually(t, time.Minute, "the gateway's last words", func() bool { return strings.Contains(gw.Output(), "goroutine 1 ") })
	gw.Kill()
	if finds, err := memscan.Bytes([]byte(gw.Output()), keyBytes(t, s)); err != nil || len(finds) > 0 {
		t.Errorf("in what a crash prints: %v %v", finds, err)
	}
}

// The scanner must find the keys in a gateway that deliberately keeps one.
func TestScannerFindsAKeyThatAGatewayHolds(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := startMutant(t, s, "holds a key")
	exercise(t, s)
	if finds := scan(t, s, gw); len(finds) == 0 {
		t.Error("the scanner finds nothing in a process that holds a private key")
	}
}

// hoarder keeps the key files in memory, as no gateway should.
var hoarder [][]byte

func hoard(config string) boot.Options {
	return boot.Options{Ready: func() {
		files, _ := filepath.Glob(filepath.Join(filepath.Dir(config), "keys", "keys", "*.pem"))
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				hoarder = append(hoarder, text)
			}
		}
	}}
}

func exercise(t *testing.T, s *harness.Stand) {
	t.Helper()
	for n := range 20 {
		browser := s.Browser()
		if status, body := s.SignIn(t, browser, "wiki", fmt.Sprintf("person-%d", n), "staff"); status != http.StatusOK {
			t.Fatalf("sign-in ended with %d: %s", status, body)
		}
	}
}

// shakeHands makes full handshakes, each of which has a key sign.
func shakeHands(t *testing.T, s *harness.Stand, n int) {
	t.Helper()
	var visitors sync.WaitGroup
	for range 8 {
		visitors.Go(func() {
			for range n / 8 {
				c, err := tls.Dial("tcp", s.Address(), &tls.Config{ServerName: "wiki." + harness.Domain, RootCAs: s.Roots()})
				if err != nil {
					t.Errorf("shaking hands: %v", err)
					return
				}
				c.NetConn().(*net.TCPConn).SetLinger(0) // the machine has fewer ports
				c.NetConn().Close()
			}
		})
	}
	visitors.Wait()
}

func scan(t *testing.T, s *harness.Stand, gw *harness.Process) []memscan.Find {
	t.Helper()
	finds, err := memscan.Process(gw.Pid(), keyBytes(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return finds
}

func keyBytes(t *testing.T, s *harness.Stand) []memscan.Secret {
	t.Helper()
	list, err := memscan.Files(filepath.Join(s.Dir, "keys", "keys", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func openFiles(t *testing.T, gw *harness.Process) (names []string) {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", gw.Pid())
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil {
			names = append(names, name)
		}
	}
	return names
}
