package listen

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A real load balancer in front, with each way that it can write headers, checksum included, and with its health checks.
func TestBehindHAProxy(t *testing.T) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/haproxy") // which is not on everybody's path
	}
	if err != nil {
		t.Fatalf("a real load balancer is needed, test/setup installs it: %v", err)
	}
	var r rejects
	l := open(t, trusting(t, "127.0.0.1"), r.note)
	checks := tellAddresses(t, l)
	for _, options := range []string{
		"send-proxy",
		"send-proxy-v2",
		"send-proxy-v2 proxy-v2-options crc32c,unique-id",
		"send-proxy-v2 check inter 10ms",                  // connects and leaves
		"send-proxy-v2 check check-send-proxy inter 10ms", // LOCAL
		"send-proxy check check-send-proxy inter 10ms",    // UNKNOWN
	} {
		front := haproxy(t, program, l.Addr().String(), options)
		var told, want string
		eventually(t, "haproxy passes a connection on", func() (err error) {
			told, want, err = greet(t, front)
			return err
		})
		if told != want {
			t.Errorf("%s: got client %s, want %s", options, told, want)
		}
		if strings.Contains(options, "check-send-proxy") {
			if host, _, _ := net.SplitHostPort(<-checks); host != "127.0.0.1" {
				t.Errorf("%s: a health check seems to come from %s", options, host)
			}
		}
	}
	if got := r.all(); len(got) > 0 {
		t.Errorf("rejected %v", got)
	}
}

// tellAddresses answers each client that says hello with the address it seems to have. It returns the addresses of those
// that leave without a word: health checks.
func tellAddresses(t *testing.T, l net.Listener) (checks <-chan string) {
	t.Helper()
	silent := make(chan string, 10_000)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				if _, err := io.ReadFull(conn, make([]byte, len("hello"))); err != nil {
					silent <- conn.RemoteAddr().String()
					return
				}
				fmt.Fprint(conn, conn.RemoteAddr())
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return silent
}

// greet says hello from 127.0.0.9, and returns the address it is told to have and the one it has.
func greet(t *testing.T, front string) (told, own string, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	c, err := d.DialContext(t.Context(), "tcp", front)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprint(c, "hello"); err != nil {
		return "", "", err
	}
	b, err := io.ReadAll(c)
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(b), c.LocalAddr().String(), err
}

// haproxy passes TCP connections on to backend until the test ends, and returns where it listens.
func haproxy(t *testing.T, program, backend, options string) (front string) {
	t.Helper()
	free, err := bind(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front = free.Addr().String()
	free.Close()
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`defaults
	mode tcp
	timeout connect 5s
	timeout client 20s
	timeout server 20s
listen door
	bind %s
	unique-id-format %%{+X}o\ %%ci:%%cp
	server gateway %s %s
`, front, backend, options)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-db", "-q", "-f", config)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy %s: %s", options, said.String())
		}
	})
	return front
}
