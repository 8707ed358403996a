package listen

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childVariable makes the test binary play a gateway that was started by a service manager.
const childVariable = "LISTEN_TEST_CHILD"

func TestMain(m *testing.M) {
	if play := os.Getenv(childVariable); play != "" {
		if err := children[play](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait. Nothing waits for it to pass.
const patience = 2 * time.Minute

func networks(t testing.TB, texts ...string) []Network {
	t.Helper()
	var list []Network
	for _, text := range texts {
		var n Network
		if err := n.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// trusting is a configuration with short patience.
func trusting(t testing.TB, texts ...string) ProxyProtocol {
	return ProxyProtocol{Trusted: networks(t, texts...), Timeout: 5 * time.Second}
}

// rejects collects what OnReject was told.
type rejects struct {
	mu  sync.Mutex
	got []string
}

func (r *rejects) note(reason string, peer netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, reason+" "+peer.String())
}

func (r *rejects) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.got...)
}

// open makes a door on a port of its own, until the test ends.
func open(t testing.TB, proxy ProxyProtocol, onReject func(string, netip.Addr)) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), Options{Key: "listen", Address: "127.0.0.1:0", Proxy: proxy, OnReject: onReject})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects from address, an address of the loopback network.
func dial(t testing.TB, l net.Listener, from string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.DialContext(t.Context(), "tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
