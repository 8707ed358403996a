package wire

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"testing/iotest"
)

func TestFramesSurviveTheRoundTrip(t *testing.T) {
	frames := []Frame{
		{ID: 0, Kind: 0, Body: []byte{}},
		{ID: 1<<32 - 1, Kind: 255, Body: []byte("body")},
		{ID: 7, Kind: byte(OpSignAssertion), Body: bytes.Repeat([]byte{1}, MaxRequest-headLen)},
	}
	var stream []byte
	for _, f := range frames {
		stream = AppendFrame(stream, f)
	}
	r := iotest.OneByteReader(bytes.NewReader(stream))
	for _, want := range frames {
		got, err := ReadFrame(r, MaxRequest)
		if err != nil || got.ID != want.ID || got.Kind != want.Kind || !bytes.Equal(got.Body, want.Body) {
			t.Errorf("got %v %v, want %v", got, err, want)
		}
	}
	if _, err := ReadFrame(r, MaxRequest); err != io.EOF {
		t.Errorf("between frames got %v, want io.EOF", err)
	}
}

func TestBadFramesAreErrors(t *testing.T) {
	whole := AppendFrame(nil, Frame{ID: 1, Kind: 1, Body: []byte("abc")})
	for n := 1; n < len(whole); n++ {
		if _, err := ReadFrame(bytes.NewReader(whole[:n]), MaxRequest); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: got %v, want unexpected EOF", n, err)
		}
	}
	for _, length := range [][]byte{{0, 0, 0, 0}, {0, 0, 0, 4}, {0, 1, 0, 1}, {255, 255, 255, 255}} {
		r := bytes.NewReader(append(length, make([]byte, 100)...))
		if _, err := ReadFrame(r, MaxRequest); !errors.Is(err, ErrFrame) {
			t.Errorf("length %v: got %v, want %v", length, err, ErrFrame)
		}
		if r.Len() != 100 {
			t.Errorf("length %v: read %d bytes behind it", length, 100-r.Len())
		}
	}
}

// FuzzReadFrame: what decodes encodes to the very bytes that were read, not one more was read, and the rest is errors.
// KEY-09.
func FuzzReadFrame(f *testing.F) {
	f.Add(AppendFrame(nil, Frame{ID: 1, Kind: byte(OpList)}))
	var all []byte
	for op := OpList; op.String() != "unknown"; op++ {
		frame := AppendFrame(nil, Frame{ID: uint32(op), Kind: byte(op), Body: SignBody(KeyID{1}, []byte("message"))})
		f.Add(frame)
		all = append(all, frame...)
	}
	f.Add(all)
	f.Add(AppendFrame(nil, Frame{ID: 3, Kind: byte(OpMakeCSR), Body: []byte(`{"slot":"wiki","names":["wiki.corp.example"]}`)}))
	f.Add(AppendFrame(nil, Frame{ID: 4, Kind: byte(OpRotate), Body: []byte(`{"name":"says","now":true}`)}))
	f.Add([]byte{0, 1, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		wantWholeFrames(t, data)
		r := bytes.NewReader(data)
		for {
			before := len(data) - r.Len()
			frame, err := ReadFrame(r, MaxRequest)
			if err != nil {
				return
			}
			read := data[before : len(data)-r.Len()]
			if again := AppendFrame(nil, frame); !bytes.Equal(again, read) {
				t.Fatalf("decoded %x, encodes to %x", read, again)
			}
			if key, message, err := SplitSignBody(frame.Body); err == nil && !bytes.Equal(SignBody(key, message), frame.Body) {
				t.Fatalf("sign body %x does not survive", frame.Body)
			}
		}
	})
}

// wantWholeFrames compares what HasFrame promises with what ReadFrame needs: a frame that is there is read without asking
// the peer for more.
func wantWholeFrames(t *testing.T, data []byte) {
	t.Helper()
	peer := &stingy{data: data}
	r := bufio.NewReader(peer)
	r.Peek(1)
	for HasFrame(r) {
		peer.closed = true
		if _, err := ReadFrame(r, MaxRequest); err != nil && !errors.Is(err, ErrFrame) {
			t.Fatalf("a frame that is there: %v", err)
		} else if err != nil {
			return
		}
	}
}

// stingy gives all that it has at once, and fails a test's promise when it is asked again.
type stingy struct {
	data   []byte
	closed bool
}

func (s *stingy) Read(b []byte) (int, error) {
	if s.closed {
		return 0, errors.New("asked for more")
	}
	n := copy(b, s.data)
	s.data = s.data[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestHello(t *testing.T) {
	for _, tt := range []struct {
		name   string
		client func(io.ReadWriter) error
		ok     bool
	}{
		{"this build", Offer, true},
		{"a newer client that still speaks version 1", func(rw io.ReadWriter) error { return talk(rw, "SPKEYD\x00\x09", "SPKEYD\x00\x01") }, true},
		{"a client without a common version", func(rw io.ReadWriter) error { return talk(rw, "SPKEYD\x00\x00", "SPKEYD\x00\x00") }, false},
		{"another protocol", func(rw io.ReadWriter) error { return talk(rw, "GET / HT", "") }, false},
		{"half a hello", func(rw io.ReadWriter) error { return talk(rw, "SPK", "") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := net.Pipe()
			result := make(chan error, 1)
			go func() {
				result <- Accept(server)
				server.Close()
			}()
			if err := tt.client(client); err != nil {
				t.Errorf("client: %v", err)
			}
			client.Close()
			if err := <-result; (err == nil) != tt.ok {
				t.Errorf("server: got %v, want ok %v", err, tt.ok)
			}
		})
	}
	client, server := net.Pipe()
	go func() {
		io.ReadFull(server, make([]byte, helloLen))
		server.Write([]byte("SPKEYD\x00\x02"))
	}()
	if err := Offer(client); err == nil {
		t.Error("a version that we do not speak was accepted")
	}
}

// talk writes say and reads want.
func talk(rw io.ReadWriter, say, want string) error {
	if _, err := io.WriteString(rw, say); err != nil {
		return err
	}
	if len(say) < helloLen {
		return rw.(io.Closer).Close()
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(rw, got); err != nil || string(got) != want {
		return errors.Join(err, errors.New("got "+string(got)))
	}
	return nil
}

func TestKeyIDsAreJWKThumbprints(t *testing.T) {
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// RFC 7638 §3.1.
	n := "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst" +
		"n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	// RFC 8037 §A.3.
	x := "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	for _, tt := range []struct {
		name string
		pub  crypto.PublicKey
		want string
	}{
		{"RSA", &rsa.PublicKey{N: new(big.Int).SetBytes(decode(n)), E: 65537}, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{"Ed25519", ed25519.PublicKey(decode(x)), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		if id, err := ID(tt.pub); err != nil || id.String() != tt.want {
			t.Errorf("%s: got %s %v, want %s", tt.name, id, err, tt.want)
		}
	}
	// RFC 7517 §A.1 has this key; the thumbprint is of the members that RFC 7638 §3.2 requires for EC.
	ec, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4},
		append(decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"), decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM")...)...))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := ID(ec); err != nil || id.String() != "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s" {
		t.Errorf("EC: got %s %v", id, err)
	}
	if _, err := ID(&ecdsa.PublicKey{Curve: elliptic.P521()}); err == nil {
		t.Error("P-521 has an id")
	}
}
