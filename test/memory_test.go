package test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/gateway/boot"
	"sallyport/test/harness"
	"sallyport/test/memscan"
)

// KEY-01, KEY-02: after handshakes, sign-ins and assertions the gateway's memory holds nothing of any private key, and
// neither do its open files, environment and arguments lead to one.
func TestGatewayHoldsNoPrivateKey(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	gw := s.Start(t)
	exercise(t, s)
	if finds := scan(t, s, gw); len(finds) > 0 {
		t.Errorf("the gateway holds %s", finds[0])
	}
	for _, name := range openFiles(t, gw) {
		if strings.HasPrefix(name, filepath.Join(s.Dir, "keys", "keys")) {
			t.Errorf("the gateway has %s open", name)
		}
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

func scan(t *testing.T, s *harness.Stand, gw *harness.Process) []memscan.Find {
	t.Helper()
	secrets, err := memscan.Files(filepath.Join(s.Dir, "keys", "keys", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	finds, err := memscan.Process(gw.Pid(), secrets)
	if err != nil {
		t.Fatal(err)
	}
	return finds
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
