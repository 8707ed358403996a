package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// children are the programs that this test binary plays.
var children = map[string]func() error{"report": report, "serve": serve}

// report prints what was inherited, and what a child of its own would find.
func report() error {
	s, err := Inherited()
	if err != nil {
		return err
	}
	defer s.Close()
	for door, l := range map[string]net.Listener{"https": s.HTTPS, "http": s.HTTP} {
		if l != nil {
			fmt.Println(door, l.Addr())
		}
	}
	for _, entry := range os.Environ() {
		if strings.HasPrefix(entry, "LISTEN_") && !strings.HasPrefix(entry, childVariable) {
			fmt.Println("environment", entry)
		}
	}
	leaks, err := exec.Command("/bin/sh", "-c", "for f in /proc/self/fd/*; do readlink $f; done | grep socket || true").Output()
	if len(leaks) > 0 {
		fmt.Printf("leak %s", leaks)
	}
	return err
}

// serve answers every connection with its pid until it is told to stop, and then finishes what it accepted.
func serve() error {
	s, err := Inherited()
	if err != nil {
		return err
	}
	l, err := Listen(context.Background(), Options{Key: "listen", Address: ":0", Inherited: s.HTTPS})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
		l.Close()
	}()
	var running sync.WaitGroup
	defer running.Wait()
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			<-stop
			return nil
		}
		running.Go(func() {
			defer c.Close()
			io.Copy(io.Discard, c) // until the client has sent all
			fmt.Fprint(c, os.Getpid())
		})
	}
}

// start runs a child with the files as descriptors 3, 4, … as a service manager does: LISTEN_PID is the child's own.
func start(t testing.TB, play string, env []string, files ...*os.File) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `[ -n "$LISTEN_PID" ] || export LISTEN_PID=$$; exec "$0"`, self)
	cmd.Env = append([]string{childVariable + "=" + play, "GORACE=atexit_sleep_ms=0"}, env...)
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	return cmd
}

// tcpSocket is a listening socket of the test's own, and its descriptor as a child inherits it.
func tcpSocket(t testing.TB) (net.Listener, *os.File) {
	t.Helper()
	l, err := bind(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); f.Close() })
	return l, f
}

func socketFile(t testing.TB, domain, kind, protocol int) *os.File {
	t.Helper()
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { f.Close() })
	return f
}

func TestInherited(t *testing.T) {
	l1, f1 := tcpSocket(t)
	l2, f2 := tcpSocket(t)
	a1, a2 := l1.Addr().String(), l2.Addr().String()
	unixListener, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer unixListener.Close()
	unixFile, err := unixListener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer unixFile.Close()
	multipath, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}) // Go's default
	if err != nil {
		t.Fatal(err)
	}
	defer multipath.Close()
	multipathFile, err := multipath.File()
	if err != nil {
		t.Fatal(err)
	}
	defer multipathFile.Close()
	plain, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, tt := range []struct {
		name  string
		env   []string
		files []*os.File
		want  []string // lines, sorted
		fails string
	}{
		{"nothing", nil, nil, nil, ""},
		{"one, by order", []string{"LISTEN_FDS=1"}, []*os.File{f1}, []string{"https " + a1}, ""},
		{"the unit's own name", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=sallyport.socket:sallyport.socket"}, []*os.File{f1, f2}, []string{"http " + a2, "https " + a1}, ""},
		{"by name", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=http:https"}, []*os.File{f1, f2}, []string{"http " + a1, "https " + a2}, ""},
		{"http alone", []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=http"}, []*os.File{f1}, []string{"http " + a1}, ""},
		{"Multipath TCP, if the manager likes it", []string{"LISTEN_FDS=1"}, []*os.File{multipathFile}, []string{"https " + multipath.Addr().String()}, ""},
		{"meant for another process", []string{"LISTEN_FDS=1", "LISTEN_PID=1"}, []*os.File{f1}, nil, ""},
		{"a pid that is none", []string{"LISTEN_FDS=1", "LISTEN_PID=me"}, []*os.File{f1}, nil, ""},
		{"none passed", []string{"LISTEN_FDS=0"}, nil, nil, ""},

		{"no number", []string{"LISTEN_FDS=x"}, nil, nil, "LISTEN_FDS"},
		{"negative", []string{"LISTEN_FDS=-1"}, nil, nil, "LISTEN_FDS"},
		{"far too many", []string{"LISTEN_FDS=1000000"}, nil, nil, "LISTEN_FDS"},
		{"three", []string{"LISTEN_FDS=3"}, []*os.File{f1, f2, f1}, nil, "3 sockets"},
		{"the same name", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=https:https"}, []*os.File{f1, f2}, nil, "two sockets are called https"},
		{"a name of ours and another", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=https:metrics"}, []*os.File{f1, f2}, nil, `called "metrics"`},
		{"fewer names than sockets", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=https"}, []*os.File{f1, f2}, nil, "names 1 sockets of 2"},
		{"a file", []string{"LISTEN_FDS=1"}, []*os.File{plain}, nil, "descriptor 3, for https: not a socket"},
		{"nothing there", []string{"LISTEN_FDS=2"}, []*os.File{f1}, nil, "descriptor 4, for http"},
		{"a Unix socket", []string{"LISTEN_FDS=1"}, []*os.File{unixFile}, nil, "not an IP socket"},
		{"a datagram socket", []string{"LISTEN_FDS=1"}, []*os.File{socketFile(t, unix.AF_INET, unix.SOCK_DGRAM, 0)}, nil, "not a stream socket"},
		{"not listening", []string{"LISTEN_FDS=1"}, []*os.File{socketFile(t, unix.AF_INET, unix.SOCK_STREAM, 0)}, nil, "not listening"},
		{"good and bad", []string{"LISTEN_FDS=2"}, []*os.File{f1, plain}, nil, "descriptor 4, for http: not a socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := start(t, "report", tt.env, tt.files...)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if tt.fails != "" {
				if err == nil || !strings.Contains(stderr.String(), tt.fails) {
					t.Errorf("got %v %s%s, want %q", err, out, stderr.String(), tt.fails)
				}
				return
			}
			got := strings.Split(strings.TrimSpace(string(out)), "\n")
			if got[0] == "" {
				got = nil
			}
			slices.Sort(got)
			if len(tt.want) == 0 && len(tt.files) > 0 { // not ours: left alone, also for children
				got = slices.DeleteFunc(got, func(line string) bool { return strings.HasPrefix(line, "leak") })
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q (%v %s), want %q", got, err, stderr.String(), tt.want)
			}
		})
	}
}

// A restart refuses nobody: while no gateway runs, connections wait in the backlog of the socket that the manager holds,
// and the next gateway answers them.
func TestRestartRefusesNobody(t *testing.T) {
	l, f := tcpSocket(t)
	var stopping func() error
	run := func() (stop func() error) {
		cmd := start(t, "serve", []string{"LISTEN_FDS=1"}, f)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		return func() error {
			in.Close()
			return cmd.Wait()
		}
	}
	stopping = run()

	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	var failures []error
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				pid, err := ask(l.Addr().String())
				mu.Lock()
				if err != nil {
					failures = append(failures, err)
				}
				answers[pid]++
				mu.Unlock()
			}
		})
	}
	answered := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(answers)
	}
	const restarts = 3
	for round := range restarts {
		eventually(t, "somebody was answered", func() error {
			if n := answered(); n <= round {
				return fmt.Errorf("by %d gateways", n)
			}
			return nil
		})
		if err := stopping(); err != nil {
			t.Fatal(err)
		}
		patient, err := net.DialTimeout("tcp", l.Addr().String(), patience) // nobody runs, and clients come all the same
		if err != nil {
			t.Fatal(err)
		}
		stopping = run()
		if pid, err := talk(patient); err != nil || pid == "" {
			t.Errorf("who connected in between was not served: %v", err)
		}
	}
	eventually(t, "the last gateway answered", func() error {
		if n := answered(); n <= restarts {
			return fmt.Errorf("%d gateways", n)
		}
		return nil
	})
	cancel()
	clients.Wait()
	if err := stopping(); err != nil {
		t.Error(err)
	}
	if len(failures) > 0 {
		t.Errorf("%d clients were not served, the first: %v", len(failures), failures[0])
	}
	t.Logf("answers by gateway: %v", answers)
}

func ask(address string) (string, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return "", err
	}
	return talk(c)
}

func talk(c net.Conn) (string, error) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello")); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	if err == nil && len(b) == 0 {
		err = errors.New("no answer")
	}
	return string(b), err
}

// The real thing: systemd's own way of passing sockets.
func TestSystemdPassesASocket(t *testing.T) {
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatalf("systemd's own tool is needed, test/setup installs it: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	free, err := bind(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	cmd := exec.CommandContext(t.Context(), activate, "--listen="+address, "--fdname=https", "--setenv="+childVariable, self)
	cmd.Env = append(os.Environ(), childVariable+"=serve")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first connection is answered", func() error {
		pid, err := ask(address)
		if err == nil && pid != fmt.Sprint(cmd.Process.Pid) { // it executes the program in its own place
			t.Errorf("answered by %s, want %d", pid, cmd.Process.Pid)
		}
		return err
	})
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestInheritedSocketsMustFit(t *testing.T) {
	l, _ := tcpSocket(t)
	wide, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	port := func(l net.Listener) string { return fmt.Sprint(l.Addr().(*net.TCPAddr).Port) }
	for _, tt := range []struct {
		name    string
		l       net.Listener
		address string
		want    string
	}{
		{"the same", l, "127.0.0.1:" + port(l), ""},
		{"narrower than configured", l, ":" + port(l), ""},
		{"any port", l, "127.0.0.1:0", ""},
		{"all addresses", wide, ":" + port(wide), ""},
		{"all addresses, spelled out", wide, "0.0.0.0:" + port(wide), ""},
		{"another port", l, "127.0.0.1:1", "the ports differ"},
		{"wider than configured", wide, "127.0.0.1:" + port(wide), "the addresses differ"},
		{"another address", l, "127.0.0.2:" + port(l), "the addresses differ"},
		{"not configured", l, "", "which nothing is configured to serve"},
		{"no address", l, "443", "missing port"},
		{"no port", l, "127.0.0.1:none", "unknown port"},
	} {
		got, err := Listen(t.Context(), Options{Key: "listen", Address: tt.address, Inherited: tt.l})
		if tt.want == "" && (err != nil || got != tt.l) {
			t.Errorf("%s: got %v %v, want the socket", tt.name, got, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "listen: ")) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// An inherited socket's connections are like those of one bound here.
func TestInheritedSocketsHaveTheSameOptions(t *testing.T) {
	_, f := tcpSocket(t)
	inherited, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	dial(t, inherited, "127.0.0.1")
	c, err := inherited.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for name, option := range map[string]int{"TCP_NODELAY": unix.TCP_NODELAY, "TCP_KEEPIDLE": unix.TCP_KEEPIDLE} {
			want := map[string]int{"TCP_NODELAY": 1, "TCP_KEEPIDLE": 15}[name]
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || got != want {
				t.Errorf("%s is %d (%v), want %d", name, got, err, want)
			}
		}
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); err != nil || got != 1 {
			t.Errorf("SO_KEEPALIVE is %d (%v), want 1", got, err)
		}
	})
}
