package keyd_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// KEY-09: a running keyd survives what the fuzzer thinks of, and goes on serving others.
func TestKEY09Garbage(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	p := s.Start(t)
	r := mathrand.New(mathrand.NewPCG(keydtest.Seed(t), 0))
	good := dial(t, s)
	for range rounds(t, 100) {
		c, err := net.Dial("unix", s.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(5) > 0 {
			wire.Offer(c)
		}
		for range r.IntN(20) {
			f := wire.AppendFrame(nil, wire.Frame{ID: r.Uint32N(3), Kind: byte(r.IntN(12)), Body: garbage(r, all)})
			switch r.IntN(4) {
			case 0:
				f = f[:r.IntN(len(f)+1)] // truncated; what follows is out of step
			case 1:
				f[r.IntN(len(f))] ^= byte(1 << r.IntN(8))
			}
			if _, err := c.Write(f); err != nil {
				break
			}
		}
		c.Close()
		if code, _ := good.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, all[0]), []byte(certificateVerify))); code != wire.OK {
			t.Fatalf("another peer is answered %s", code)
		}
	}
	if !p.Running() {
		t.Fatalf("keyd exited: %s", p.Log())
	}
	for _, k := range all {
		der, _ := x509.MarshalPKCS8PrivateKey(k.Private)
		if strings.Contains(p.Log(), base64.StdEncoding.EncodeToString(der)) {
			t.Error("a key is in the log")
		}
	}
	if lines := strings.Count(p.Log(), "\n"); lines > 200 {
		t.Errorf("keyd wrote %d lines about it", lines)
	}
}

func garbage(r *mathrand.Rand, all []keydtest.Key) []byte {
	b := make([]byte, r.IntN(300))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	key, _ := wire.ID(all[r.IntN(len(all))].Private.Public())
	switch r.IntN(4) {
	case 0:
		return wire.SignBody(key, b)
	case 3:
		g := wire.Growth{Old: r.Uint64N(3), Proof: make([][32]byte, r.IntN(70)), Body: wire.Checkpoint{Origin: decision, Size: r.Uint64N(wire.MaxSize + 2)}.AppendText(nil)}
		return wire.SignBody(key, g.AppendText(nil))
	case 1:
		return wire.SignBody(key, []byte(certificateVerify)[:r.IntN(len(certificateVerify))])
	}
	return b
}

// rounds is how often a repeating test repeats.
func rounds(t testing.TB, few int) int {
	t.Helper()
	if s := os.Getenv("SALLYPORT_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return max(n, 20)
	}
	return few
}

// A peer that floods, one that never reads and one that stops in the middle of a frame hold up nobody but themselves,
// and the last two lose their connections.
func TestSlowAndFloodingPeersStopNobody(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{keydtest.GatewayUID, 0}, all...) // the first's group may reach the socket
	s.Start(t)

	half := dial(t, s)
	half.Write([]byte{0, 0, 1})
	deaf := dial(t, s)
	go func() {
		list := wire.AppendFrame(nil, wire.Frame{Kind: byte(wire.OpList)})
		for {
			if _, err := deaf.Write(list); err != nil {
				return
			}
		}
	}()
	rsaBody := wire.SignBody(id(t, all[2]), []byte(certificateVerify))
	flood := dial(t, s)
	go io.Copy(io.Discard, flood)
	go func() {
		f := bytes.Repeat(wire.AppendFrame(nil, wire.Frame{Kind: byte(wire.OpSignTLS13Server), Body: rsaBody}), 100)
		for {
			if _, err := flood.Write(f); err != nil {
				return
			}
		}
	}()
	good := dial(t, s)
	for range 50 {
		began := time.Now()
		if code, _ := good.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, all[0]), []byte(certificateVerify))); code != wire.OK {
			t.Fatalf("got %s", code)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a signature took %v beside hostile peers", took)
		}
	}
	flood.Close()
	half.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := half.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer that stopped in a frame: got %v, want the connection closed", err)
	}

	// One user cannot take all connections.
	var crowd []net.Conn
	for range 100 {
		c, err := net.Dial("unix", s.Socket)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
		defer c.Close()
	}
	keydtest.Eventually(t, "the crowd is thinned", func() error {
		crowd[99].SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := crowd[99].Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("the hundredth connection: %v", err)
		}
		return nil
	})
	if out, err := keydtest.As(t, keydtest.GatewayUID, "ask", s.Socket).CombinedOutput(); err != nil {
		t.Errorf("another user is not served: %q %v", out, err)
	}
}
