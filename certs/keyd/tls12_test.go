package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"
)

// groups12 are the curves of TLS 1.2, with the length of a public key.
var groups12 = map[uint16]struct {
	curve  ecdh.Curve
	length int
}{23: {ecdh.P256(), 65}, 24: {ecdh.P384(), 97}, 25: {ecdh.P521(), 133}, 29: {ecdh.X25519(), 32}}

// message12 is what a server of TLS 1.2 signs that could speak 1.3.
func message12(t testing.TB, group uint16) []byte {
	t.Helper()
	private, err := groups12[group].curve.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := exchange12{group: group, public: private.PublicKey().Bytes()}
	rand.Read(x.clientRandom[:])
	rand.Read(x.serverRandom[:])
	copy(x.serverRandom[24:], downgraded)
	return x.append(nil)
}

// change returns m with the bytes from an offset replaced.
func change(m []byte, at int, by string) []byte {
	m = bytes.Clone(m)
	copy(m[at:], by)
	return m
}

func TestKeyExchangeOfTLS12IsExact(t *testing.T) {
	for group, want := range groups12 {
		m := message12(t, group)
		x, err := parseExchange12(m)
		if err != nil || x.group != group || len(x.public) != want.length || len(m) != 68+want.length {
			t.Errorf("group %d: got %v of %d bytes", group, err, len(x.public))
		}
		other := message12(t, map[uint16]uint16{23: 24, 24: 25, 25: 29, 29: 23}[group])
		for name, bad := range map[string][]byte{
			"nothing":                nil,
			"randoms alone":          m[:64],
			"no public key":          m[:68],
			"a byte less":            m[:len(m)-1],
			"a byte more":            append(bytes.Clone(m), 0),
			"another length":         change(m, 67, "\x01"),
			"explicit_prime":         change(m, 64, "\x01"),
			"explicit_char2":         change(m, 64, "\x02"),
			"no group":               change(m, 65, "\x00\x00"),
			"secp224r1":              change(m, 65, "\x00\x15"),
			"X448":                   change(m, 65, "\x00\x1e"),
			"X25519MLKEM768":         change(m, 65, "\x11\xec"),
			"ffdhe2048":              change(m, 65, "\x01\x00"),
			"key of another group":   append(bytes.Clone(m[:67]), other[67:]...),
			"no mark":                change(m, 56, "\x00"),
			"mark of TLS 1.1":        change(m, 63, "\x00"),
			"mark in client random":  change(change(m, 56, "12345678"), 24, downgraded),
			"randoms the other way":  append(append(bytes.Clone(m[32:64]), m[:32]...), m[64:]...),
			"parameters, then again": append(bytes.Clone(m), m[64:]...),
			"parameters alone":       m[64:],
			"client random missing":  m[32:],
			"its digest":             digest(m),
			"1.3":                    []byte(serverSide.certificateVerify() + strings.Repeat("h", 32)),
		} {
			if _, err := parseExchange12(bad); err == nil {
				t.Errorf("group %d: %s: accepted", group, name)
			}
		}
		if group == 29 {
			continue
		}
		for name, bad := range map[string][]byte{
			"compressed": append(change(m[:67], 66, string([]byte{byte(group)})), append([]byte{byte(1 + want.length/2), 2}, m[69:69+want.length/2]...)...),
			"hybrid":     change(m, 68, "\x06"),
			"infinity":   append(bytes.Clone(m[:67]), 1, 0),
			"off curve":  change(m, len(m)-1, string([]byte{m[len(m)-1] ^ 1})),
			"zero":       append(bytes.Clone(m[:69]), make([]byte, want.length-1)...),
		} {
			if _, err := parseExchange12(bad); err == nil {
				t.Errorf("group %d: point %s: accepted", group, name)
			}
		}
	}
}

func digest(m []byte) []byte {
	d := sha256.Sum256(m)
	return d[:]
}

// KEY-05: no message is one of TLS 1.2 and of TLS 1.3, whatever randoms client and server choose; a client's 32 spaces
// and a server's are no way across. Mutant that this catches: a check of the length of the parameters alone.
func TestKEY05NoMessageIsOfBothVersions(t *testing.T) {
	for group := range groups12 {
		m := message12(t, group)
		spaces := change(m, 0, strings.Repeat(" ", 56))
		if _, err := parseExchange12(spaces); err != nil {
			t.Errorf("group %d: a client with a random of spaces is refused: %v", group, err)
		}
		if _, err := parseExchange12(change(m, 0, strings.Repeat(" ", 64))); err == nil {
			t.Errorf("group %d: accepted with a server random of spaces", group)
		}
		for _, s := range []side{serverSide, clientSide} {
			for _, candidate := range [][]byte{m, spaces, change(m, 0, strings.Repeat(" ", 64)), change(m, 0, s.certificateVerify())} {
				_, err := parseExchange12(candidate)
				if err == nil && s.check(candidate) == nil {
					t.Errorf("group %d: %q is of both versions", group, candidate)
				}
			}
			for _, n := range []int{32, 48} {
				verify := s.certificateVerify() + strings.Repeat("h", n)
				for _, mark := range []string{"", downgraded, "DOWNGRD\x01\x03\x00\x1d\x20"} {
					if _, err := parseExchange12(change([]byte(verify), 56, mark)); err == nil {
						t.Errorf("%s: accepted for TLS 1.2", s)
					}
				}
			}
		}
	}
}

// FuzzKeyExchange12: what is accepted is written again byte by byte, so that no two messages mean the same exchange, and
// is of no other purpose. KEY-05.
func FuzzKeyExchange12(f *testing.F) {
	for group := range groups12 {
		f.Add(message12(f, group))
		f.Add(change(message12(f, group), 0, strings.Repeat(" ", 56)))
	}
	f.Add([]byte(serverSide.certificateVerify() + strings.Repeat("h", 32)))
	f.Add([]byte(clientSide.certificateVerify() + strings.Repeat("h", 48)))
	f.Add(change([]byte(serverSide.certificateVerify()+strings.Repeat("h", 35)), 56, "DOWNGRD\x01\x03\x00\x17\x41"))
	f.Fuzz(func(t *testing.T, message []byte) {
		x, err := parseExchange12(message)
		if err != nil {
			return
		}
		if again := x.append(nil); !bytes.Equal(again, message) {
			t.Fatalf("read %x, written %x", message, again)
		}
		if g := groups12[x.group]; len(x.public) != g.length || string(message[56:64]) != downgraded || message[64] != 3 {
			t.Fatalf("accepted %x", message)
		}
		for _, s := range []side{serverSide, clientSide} {
			if s.check(message) == nil {
				t.Fatalf("also of the %s of TLS 1.3: %x", s, message)
			}
		}
		if _, err := parseToken(message); err == nil {
			t.Fatalf("also a token: %x", message)
		}
	})
}

// KEY-05: an Ed25519 key has so short a public half that a message of this form could hold a certificate request for it,
// in DER. So it cannot be marked. The test builds such a message, that a key without this check would sign.
func TestKEY05Ed25519KeysServeNoTLS12(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls12Signer(private); err == nil {
		t.Error("an Ed25519 key is marked for TLS 1.2")
	}
	request := smuggle(t, public)
	if _, err := parseExchange12(request); err != nil {
		t.Fatalf("the example is no key exchange any more: %v", err)
	}
	signature := ed25519.Sign(private, request)
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm struct{ ID asn1.ObjectIdentifier }
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: request}, struct{ ID asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 3, 101, 112}}, asn1.BitString{Bytes: signature, BitLength: 512}})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		t.Errorf("the example is no certificate request: %v", err)
	}
}

// smuggle makes a CertificationRequestInfo (RFC 2986 §4.1) for the key that is a key exchange on P-521 too: a subject that
// holds the fixed bytes, the key in x, and the rest of x and y in an attribute.
func smuggle(t *testing.T, public ed25519.PublicKey) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(crypto.PublicKey(public))
	if err != nil {
		t.Fatal(err)
	}
	// 201 bytes: 68 of randoms and fixed, 0x04, x and y of 66 each. The subject's value ends 3 bytes into x.
	m := append([]byte{0x30, 0x81, 198, 2, 1, 0}, 0x30, 63, 0x31, 61, 0x30, 59, 6, 3, 0x55, 4, 10, 0x14, 52)
	m = append(m, make([]byte, 52)...)
	copy(m[56:], downgraded+"\x03\x00\x19\x85\x04")
	m = append(m, spki...) // from 71 to 115
	m = append(m, 0xa0, 84, 0x30, 82, 6, 3, 0x2a, 3, 4, 0x31, 75, 4, 73)
	m = append(m, make([]byte, 201-len(m))...)
	for i := range 256 { // of the points with such an x, every second is on the curve
		m[134] = byte(i)
		if x, y := elliptic.UnmarshalCompressed(elliptic.P521(), append([]byte{2}, m[69:135]...)); x != nil {
			y.FillBytes(m[135:])
			return m
		}
	}
	t.Fatal("no point has such an x")
	return nil
}
