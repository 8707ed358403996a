package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTakenPortIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	_, err = freeAddress(taken)
	if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "already in use") || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("freeAddress(%s) = %v, want an error that names the address and the way out", taken, err)
	}
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for _, address := range []string{"0.0.0.0:8443", ":8443", "192.0.2.1:8443", "example.org:8443", "8443", "[::]:8443"} {
		if got, err := freeAddress(address); err == nil {
			t.Errorf("freeAddress(%q) = %q, want an error", address, got)
		}
	}
	if got, err := freeAddress("127.0.0.1:0"); err != nil || strings.HasSuffix(got, ":0") {
		t.Errorf("freeAddress with port 0 = %q, %v; want a real port", got, err)
	}
}

func TestFolderIsNewOrOurs(t *testing.T) {
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(foreign); err == nil {
		t.Error("a folder with somebody's files was taken")
	}
	if _, err := openFolder(filepath.Join(t.TempDir(), "new", "folder")); err != nil {
		t.Errorf("a new folder: %v", err)
	}
}

func TestTemporaryFolderGoesAndNamedOneStays(t *testing.T) {
	temporary, err := openFolder("")
	if err != nil {
		t.Fatal(err)
	}
	named, err := openFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*folder{temporary, named} {
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(temporary.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder is still there: %v", err)
	}
	if _, err := os.Stat(named.dir); err != nil {
		t.Errorf("the named folder has gone: %v", err)
	}
}

func TestKeptFolderIsForItsPorts(t *testing.T) {
	for issuer, port := range map[string]string{`issuer: "https://auth.sallyport.localhost:9443"`: "9443", `issuer: "https://auth.sallyport.localhost"`: "443"} {
		f := &folder{dir: t.TempDir()}
		if err := os.MkdirAll(f.path("keyd"), 0o700); err != nil {
			t.Fatal(err)
		}
		config := "    audiences: [\"http://localhost:40123\"]\nassertion:\n  " + issuer + "\n"
		if err := os.WriteFile(f.path("keyd", "keyd.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, want := f.providerAddress(), "127.0.0.1:40123"; got != want {
			t.Errorf("the provider comes back at %s, want %s", got, want)
		}
		if err := f.makeKeys(t.Context(), &demo{listen: "127.0.0.1:" + port}); err != nil {
			t.Errorf("keys made for port %s are not reused there: %v", port, err)
		}
		if err := f.makeKeys(t.Context(), &demo{listen: "127.0.0.1:8443"}); err == nil || !strings.Contains(err.Error(), "port "+port) {
			t.Errorf("keys made for port %s on another: %v, want an error that names the port", port, err)
		}
	}
}

func TestChildsDeathIsToldInItsWords(t *testing.T) {
	var out bytes.Buffer
	c := newChild("gateway", &out, "/bin/sh", "-c", "echo opening the log >&2; echo no space left >&2; exit 3")
	err := runChild(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("run = %v, want the exit status and the last words", err)
	}
	if want := "gateway │ opening the log\ngateway │ no space left\n"; out.String() != want {
		t.Errorf("shown:\n%swant:\n%s", &out, want)
	}
	if err := runChild(t.Context(), newChild("gateway", &out, "/bin/true")); err == nil {
		t.Error("a program that ends by itself is not missed")
	}
}

func TestChildStopsWhenAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started := &startSignal{started: make(chan struct{})}
	c := newChild("gateway", started, "/bin/sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx) }()
	<-started.started
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stopping: %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the program did not stop")
	}
}

func TestWordsComeAsLines(t *testing.T) {
	var out bytes.Buffer
	w := &words{prefix: "p │ ", out: &out}
	for _, piece := range []string{"on", "e\ntwo\nthr", "ee\nfour"} {
		w.Write([]byte(piece))
	}
	if want := "p │ one\np │ two\np │ three\n"; out.String() != want {
		t.Errorf("shown:\n%swant:\n%s", &out, want)
	}
	if got, want := w.last(), "one\ntwo\nthree\nfour"; got != want {
		t.Errorf("last words %q, want %q", got, want)
	}
	w.Write([]byte(strings.Repeat("x\n", 100)))
	if n := strings.Count(w.last(), "x"); n != remembered {
		t.Errorf("%d lines remembered, want %d", n, remembered)
	}
}

func TestPathsAreQuotedForTheShell(t *testing.T) {
	for path, want := range map[string]string{"/tmp/x-1.yaml": "/tmp/x-1.yaml", "/my files/it's": `'/my files/it'\''s'`, "$HOME": "'$HOME'"} {
		if got := quoted(path); got != want {
			t.Errorf("quoted(%q) = %s, want %s", path, got, want)
		}
	}
}

func TestNobodyHasTheSameName(t *testing.T) {
	var names []string
	for _, p := range people() {
		if p.Email == "" || p.Password == "" || p.Groups == nil {
			t.Errorf("%s is incomplete: %+v", p.Username, p)
		}
		names = append(names, p.Username)
	}
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("two people share a user name: %q", names)
	}
}

func runChild(ctx context.Context, c *child) error {
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx) }()
	return <-ended
}

// startSignal tells when a program has said its first word.
type startSignal struct{ started chan struct{} }

func (s *startSignal) Write(p []byte) (int, error) {
	select {
	case <-s.started:
	default:
		close(s.started)
	}
	return len(p), nil
}
