package listen

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// heard is what a server learned of one connection.
type heard struct {
	remote  string
	said    string
	local   string
	unwraps bool
}

// answer accepts connections until the listener closes, and reports of each what it read before its end.
func answer(t testing.TB, l net.Listener) <-chan heard {
	t.Helper()
	all := make(chan heard, 1000)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				h := heard{remote: conn.RemoteAddr().String(), local: conn.LocalAddr().String()}
				_, h.unwraps = conn.(syscall.Conn)
				b, _ := io.ReadAll(conn)
				h.said = string(b)
				all <- h
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return all
}

func next(t testing.TB, all <-chan heard) heard {
	t.Helper()
	select {
	case h := <-all:
		return h
	case <-time.After(patience):
		t.Fatal("the connection was not accepted")
	}
	return heard{}
}

// dropped waits until the server has closed the connection, having answered nothing.
func dropped(t testing.TB, c net.Conn) {
	t.Helper()
	b, err := io.ReadAll(c)
	if len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q and %v, want the connection dropped", b, err)
	}
}

func TestTrustedPeersNameTheClient(t *testing.T) {
	var r rejects
	l := open(t, trusting(t, "127.0.0.2"), r.note)
	all := answer(t, l)
	for _, tt := range []struct{ header, want string }{
		{"PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n", "192.0.2.7:5678"},
		{version2(proxy, tcp6, addresses("2001:db8::7", "2001:db8::1", 5678, 443)), "[2001:db8::7]:5678"},
		{version2(local, 0), ""},
		{"PROXY UNKNOWN\r\n", ""},
	} {
		c := dial(t, l, "127.0.0.2")
		fmt.Fprint(c, tt.header, "hello")
		c.CloseWrite()
		h := next(t, all)
		want := tt.want
		if want == "" {
			want = c.LocalAddr().String() // the peer speaks for itself
		}
		if h.remote != want || h.said != "hello" || h.local != l.Addr().String() || !h.unwraps {
			t.Errorf("%q: got %+v, want remote %s, local %s and hello", tt.header, h, want, l.Addr())
		}
	}
	if got := r.all(); len(got) > 0 {
		t.Errorf("rejected: %v", got)
	}
}

// A header that the client sends itself, behind the trusted peer's, is the client's own affair.
func TestOnlyOneHeaderIsRead(t *testing.T) {
	l := open(t, trusting(t, "127.0.0.2"), nil)
	all := answer(t, l)
	c := dial(t, l, "127.0.0.2")
	const second = "PROXY TCP4 6.6.6.6 198.51.100.1 5678 443\r\n"
	fmt.Fprint(c, "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n", second)
	c.CloseWrite()
	if h := next(t, all); h.remote != "192.0.2.7:5678" || h.said != second {
		t.Errorf("got %+v, want the first header's client and the second header as data", h)
	}
}

func TestBadHeadersOfTrustedPeersAreDropped(t *testing.T) {
	var r rejects
	proxy := trusting(t, "127.0.0.2")
	l := open(t, proxy, r.note)
	all := answer(t, l)
	var want []string
	for _, tt := range headers {
		if tt.want != "missing" && tt.want != "malformed" {
			continue
		}
		c := dial(t, l, "127.0.0.2")
		fmt.Fprint(c, tt.header, "hello")
		c.CloseWrite()
		dropped(t, c)
		want = append(want, "proxy_header_"+tt.want+" 127.0.0.2")
	}
	eventually(t, "all are counted", func() error {
		if got := r.all(); len(got) != len(want) {
			return fmt.Errorf("%d of %d", len(got), len(want))
		}
		return nil
	})
	got := r.all()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(all) > 0 {
		t.Errorf("a dropped connection was accepted: %+v", <-all)
	}
}

// One that connects and leaves checks whether we are there. It is nobody, and nothing to report.
func TestHealthChecksThatSayNothing(t *testing.T) {
	var r rejects
	l := open(t, trusting(t, "127.0.0.2"), r.note)
	all := answer(t, l)
	for range 10 {
		dial(t, l, "127.0.0.2").CloseWrite()
		c := dial(t, l, "127.0.0.2")
		c.SetLinger(0) // a reset, as some balancers do
		c.Close()
	}
	c := dial(t, l, "127.0.0.2")
	fmt.Fprint(c, "PROXY UNKNOWN\r\n")
	c.CloseWrite()
	next(t, all)
	if got := r.all(); len(got) > 0 || len(all) > 0 {
		t.Errorf("rejected %v, accepted %d", got, len(all))
	}
}

// Peers that are slow with their headers hold up neither Accept nor each other, and lose their connections in the end.
func TestSlowHeadersHoldUpNobody(t *testing.T) {
	var r rejects
	proxy := trusting(t, "127.0.0.2")
	proxy.Timeout = time.Second
	l := open(t, proxy, r.note)
	all := answer(t, l)
	var slow []*net.TCPConn
	for i := range 200 {
		c := dial(t, l, "127.0.0.2")
		fmt.Fprint(c, "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443"[:i%40])
		slow = append(slow, c)
	}
	for range 20 {
		for _, from := range []string{"127.0.0.2", "127.0.0.9"} {
			c := dial(t, l, from)
			if from == "127.0.0.2" {
				fmt.Fprint(c, "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n")
			}
			c.CloseWrite()
			next(t, all)
		}
	}
	for _, c := range slow {
		dropped(t, c)
	}
	eventually(t, "all are counted", func() error {
		if n := len(r.all()); n != len(slow) {
			return fmt.Errorf("%d of %d", n, len(slow))
		}
		return nil
	})
	for _, got := range r.all() {
		if got != ReasonTimeout+" 127.0.0.2" {
			t.Fatalf("got %s, want a timeout", got)
		}
	}
}

// The timeout ends with the header: what the client says may take as long as it likes.
func TestTimeoutIsForTheHeaderAlone(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	conn := &timed{Conn: server}
	l := newProxyListener(&one{conn: conn, closed: make(chan struct{})}, trusting(t, "127.0.0.2"), nil)
	t.Cleanup(func() { l.Close() })
	go fmt.Fprint(client, "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n")
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if len(conn.deadlines) != 2 || conn.deadlines[0].IsZero() || !conn.deadlines[1].IsZero() {
		t.Errorf("got deadlines %v, want one for the header and then none", conn.deadlines)
	}
}

// timed notes the deadlines that are set, and seems to be from 127.0.0.2.
type timed struct {
	net.Conn
	deadlines []time.Time
}

func (c *timed) SetReadDeadline(t time.Time) error {
	c.deadlines = append(c.deadlines, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *timed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 1} }

// one is a listener that accepts one connection.
type one struct {
	net.Listener
	conn   net.Conn
	closed chan struct{}
}

func (l *one) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *one) Close() error {
	close(l.closed)
	return nil
}

// claims are headers by which a stranger says that it is 6.6.6.6.
var claims = []string{
	"PROXY TCP4 6.6.6.6 198.51.100.1 5678 443\r\n",
	"PROXY TCP6 ::ffff:6.6.6.6 ::ffff:198.51.100.1 5678 443\r\n",
	version2(proxy, tcp4, addresses("6.6.6.6", "198.51.100.1", 5678, 443)),
	version2(proxy, tcp6, addresses("::ffff:6.6.6.6", "::ffff:198.51.100.1", 5678, 443)),
}

// strangersAreThemselves returns what is wrong with how strangers' claims are taken by a door that trusts 127.0.0.2.
func strangersAreThemselves(t *testing.T, l net.Listener) error {
	t.Helper()
	all := answer(t, l)
	var errs []error
	for _, claim := range claims {
		c := dial(t, l, "127.0.0.9")
		fmt.Fprint(c, claim)
		c.CloseWrite()
		if h := next(t, all); h.remote != c.LocalAddr().String() || h.said != claim {
			errs = append(errs, fmt.Errorf("%q: got %+v, want remote %s and the header as data", claim, h, c.LocalAddr()))
		}
	}
	return errors.Join(errs...)
}

// TLS-05: a PROXY header from a peer that is not on the list is not understood; its connection stays its own.
func TestTLS05StrangersNameNobody(t *testing.T) {
	if err := strangersAreThemselves(t, open(t, trusting(t, "127.0.0.2"), nil)); err != nil {
		t.Error(err)
	}
	if err := strangersAreThemselves(t, open(t, ProxyProtocol{}, nil)); err != nil {
		t.Errorf("without any trusted peer: %v", err)
	}
}

// The test above notices a door that believes everybody.
func TestTLS05NoticesTrustInEverybody(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mutant := ProxyProtocol{Trusted: []Network{{netip.MustParsePrefix("0.0.0.0/0")}}, Timeout: patience}
	l := newProxyListener(inner, mutant, nil)
	t.Cleanup(func() { l.Close() })
	if strangersAreThemselves(t, l) == nil {
		t.Error("a door that believes everybody was not noticed")
	}
}

// webServer serves HTTP over TLS behind l. Its only page tells the client's address; it notes all that net/http reports.
func webServer(t *testing.T, l net.Listener) (roots *x509.CertPool, closed *sync.Map) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"wiki.corp.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	closed = &sync.Map{}
	server := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}, MinVersion: tls.VersionTLS13},
		ErrorLog:  log.New(io.Discard, "", 0),
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				closed.Store(c.RemoteAddr().String(), true)
			}
		},
	}
	var running sync.WaitGroup
	running.Go(func() { server.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		server.Close()
		running.Wait()
	})
	return roots, closed
}

// get asks for the page over HTTP/1.1 and TLS on c.
func get(c net.Conn, roots *x509.CertPool) (string, error) {
	secure := tls.Client(c, &tls.Config{ServerName: "wiki.corp.example", RootCAs: roots})
	if _, err := fmt.Fprint(secure, "GET / HTTP/1.1\r\nHost: wiki.corp.example\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(secure)
	_, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	return string(body), err
}

// TLS-05, to the end: behind the door stands net/http with TLS.
func TestTLS05ThroughTLS(t *testing.T) {
	var r rejects
	l := open(t, trusting(t, "127.0.0.2"), r.note)
	roots, closed := webServer(t, l)

	c := dial(t, l, "127.0.0.2")
	fmt.Fprint(c, "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n")
	if page, err := get(c, roots); err != nil || page != "192.0.2.7:5678" {
		t.Errorf("from a trusted peer: got %q %v, want the client's address", page, err)
	}
	c = dial(t, l, "127.0.0.9")
	if page, err := get(c, roots); err != nil || page != c.LocalAddr().String() {
		t.Errorf("from somebody else: got %q %v, want its own address", page, err)
	}
	for _, claim := range claims {
		c := dial(t, l, "127.0.0.9")
		fmt.Fprint(c, claim)
		if page, err := get(c, roots); err == nil {
			t.Errorf("%q: got %q, want no answer", claim, page)
		}
		eventually(t, "the connection is closed as the stranger's own", func() error {
			if _, ok := closed.Load(c.LocalAddr().String()); !ok {
				return errors.New("it is not")
			}
			return nil
		})
	}
	c = dial(t, l, "127.0.0.2") // it forgot its header
	if page, err := get(c, roots); err == nil {
		t.Errorf("a trusted peer without a header: got %q, want no answer", page)
	}
	closed.Range(func(remote, _ any) bool {
		if strings.Contains(remote.(string), "6.6.6.6") {
			t.Errorf("%s appeared", remote)
		}
		return true
	})
	if got := r.all(); !slices.Equal(got, []string{ReasonMissing + " 127.0.0.2"}) {
		t.Errorf("rejected %v, want the trusted peer without a header", got)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	for range 20 {
		var r rejects
		l := open(t, trusting(t, "127.0.0.2"), r.note)
		accepting := make(chan error, 1)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					accepting <- err
					return
				}
				c.Close()
			}
		}()
		var waiting []*net.TCPConn
		for range 5 {
			c := dial(t, l, "127.0.0.2")
			fmt.Fprint(c, "PROXY")
			waiting = append(waiting, c)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-accepting; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: got %v, want %v", err, net.ErrClosed)
		}
		for _, c := range waiting {
			dropped(t, c)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: got %v, want %v", err, net.ErrClosed)
		}
		if got := r.all(); len(got) > 0 {
			t.Errorf("rejected %v, but we left, not they", got)
		}
	}
}

// faulty fails every other Accept, as a process that is out of descriptors does.
type faulty struct {
	net.Listener
	n int
}

func (f *faulty) Accept() (net.Conn, error) {
	if f.n++; f.n%2 == 1 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newProxyListener(&faulty{Listener: inner}, trusting(t, "127.0.0.2"), nil)
	t.Cleanup(func() { l.Close() })
	for range 3 {
		fmt.Fprint(dial(t, inner, "127.0.0.2"), "PROXY UNKNOWN\r\n")
	}
	for accepted := 0; accepted < 3; {
		c, err := l.Accept()
		if err == nil {
			accepted++
			c.Close()
		} else if !errors.Is(err, syscall.EMFILE) {
			t.Fatal(err)
		}
	}
}

// What Listen promises of its sockets, bound and wrapped.
func TestSocketOptions(t *testing.T) {
	l := open(t, trusting(t, "127.0.0.2"), nil)
	for _, from := range []string{"127.0.0.2", "127.0.0.9"} {
		c := dial(t, l, from)
		if from == "127.0.0.2" {
			fmt.Fprint(c, "PROXY TCP4 192.0.2.7 198.51.100.1 5678 443\r\n")
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]struct{ level, option, value int }{
			"TCP_NODELAY":      {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			"TCP_KEEPINTVL":    {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
			"TCP_KEEPCNT":      {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
			"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0},
			"SO_PROTOCOL":      {unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP},
		} {
			raw.Control(func(fd uintptr) {
				if got, err := unix.GetsockoptInt(int(fd), want.level, want.option); err != nil || got != want.value {
					t.Errorf("from %s: %s is %d (%v), want %d", from, name, got, err, want.value)
				}
			})
		}
	}
}

func TestATakenPortSaysSo(t *testing.T) {
	l := open(t, ProxyProtocol{}, nil)
	_, err := Listen(t.Context(), Options{Key: "listen_http", Address: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "listen_http: "+l.Addr().String()+" is taken") {
		t.Errorf("got %v", err)
	}
}

// FuzzStrangers: whatever a peer that is not trusted sends, it arrives as it was sent, from the peer's own address.
func FuzzStrangers(f *testing.F) {
	for _, claim := range claims {
		f.Add([]byte(claim))
	}
	l := open(f, trusting(f, "127.0.0.2"), nil)
	all := answer(f, l)
	f.Fuzz(func(t *testing.T, data []byte) {
		c := dial(t, l, "127.0.0.9")
		c.Write(data)
		c.CloseWrite()
		if h := next(t, all); h.remote != c.LocalAddr().String() || h.said != string(data) {
			t.Fatalf("%q arrived as %+v", data, h)
		}
	})
}
