package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"io"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/internal/wire"
)

// distant is a key as a token shows it: nothing but the two methods of crypto.Signer.
type distant struct{ key crypto.Signer }

func (d distant) Public() crypto.PublicKey { return d.key.Public() }

func (d distant) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.key.Sign(r, digest, opts)
}

// verifies reports whether sig is the key's signature of message as TLS 1.3 pads and hashes, RFC 8446 §4.2.3.
func verifies(public crypto.PublicKey, message, sig []byte) bool {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			digest := sha512.Sum384(message)
			return ecdsa.VerifyASN1(k, digest[:], sig)
		}
		digest := sha256.Sum256(message)
		return ecdsa.VerifyASN1(k, digest[:], sig)
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *rsa.PublicKey:
		digest := sha256.Sum256(message)
		return rsa.VerifyPSS(k, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	return false
}

func TestKeysThatOnlySignDigestsSignEveryPurpose(t *testing.T) {
	for _, kind := range []keyKind{kindP256, kindP384, kindEd25519, kindRSA2048} {
		private, err := newPrivate(kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []side{serverSide, clientSide} {
			sign, err := tlsSigner(distant{private}, s.check)
			if err != nil {
				t.Fatal(err)
			}
			message := append([]byte(s.certificateVerify()), make([]byte, 32)...)
			if sig, err := sign(message); err != nil || !verifies(private.Public(), message, sig) {
				t.Errorf("%s, %s: got %x %v, want a signature", kind, s, sig, err)
			}
		}
		all := func([]byte) error { return nil }
		sign, err := jwtSigner(distant{private}, all)
		if (err == nil) != (kind == kindP256) {
			t.Fatalf("%s: got %v, want ES256 with P-256 only", kind, err)
		}
		if kind == kindP256 {
			checkFixed(t, private.Public().(*ecdsa.PublicKey), sign)
		}
		_, err = newNoteSigner("corp.example/log", distant{private})
		if (err == nil) != (kind == kindEd25519) {
			t.Errorf("%s: got %v, want notes with Ed25519 only", kind, err)
		}
	}
}

// checkFixed signs often enough to see an r or s with leading zeros.
func checkFixed(t *testing.T, public *ecdsa.PublicKey, sign func([]byte) ([]byte, error)) {
	t.Helper()
	for n := range 300 {
		input := []byte{byte(n), byte(n >> 8)}
		digest := sha256.Sum256(input)
		sig, err := sign(input)
		if err != nil || len(sig) != 64 {
			t.Fatalf("got %x %v, want r and s", sig, err)
		}
		r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
		if !ecdsa.Verify(public, digest[:], r, s) {
			t.Fatalf("signature %x does not verify", sig)
		}
	}
}

func TestManifestsSignedByADistantKeyAreNotes(t *testing.T) {
	private, err := newPrivate(kindEd25519)
	if err != nil {
		t.Fatal(err)
	}
	const name = "corp.example/audit/manifest"
	sign, err := manifestSigner(name, distant{private})
	if err != nil {
		t.Fatal(err)
	}
	text := wire.ManifestText(name, sha256.Sum256(nil))
	line, err := sign(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := verifierKey(name, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(bytes.Join([][]byte{text, line}, []byte("\n")), note.VerifierList(v)); err != nil {
		t.Errorf("got %v, want a note", err)
	}
}

// derOf is the signature (r, s), and whatever else.
func derOf(r, s *big.Int, more ...byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(r)
		b.AddASN1BigInt(s)
		b.AddBytes(more)
	})
	return b.BytesOrPanic()
}

func TestWhatIsNoSignatureIsNotPassedOn(t *testing.T) {
	one, n := big.NewInt(1), elliptic.P256().Params().N
	for name, der := range map[string][]byte{
		"nothing":               nil,
		"zero r":                derOf(new(big.Int), one),
		"zero s":                derOf(one, new(big.Int)),
		"negative":              derOf(big.NewInt(-1), one),
		"the order":             derOf(n, one),
		"larger than 32 bytes":  derOf(one, new(big.Int).Lsh(one, 256)),
		"a third number":        derOf(one, one, 2, 1, 1),
		"something behind":      append(derOf(one, one), 0),
		"r and s, raw":          make([]byte, 64),
		"padded number":         {0x30, 7, 2, 2, 0, 1, 2, 1, 1},
		"indefinite length":     {0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0},
		"a length of two bytes": {0x30, 0x81, 6, 2, 1, 1, 2, 1, 1},
	} {
		if sig, err := signES256(saying(der), make([]byte, 32)); err == nil {
			t.Errorf("%s: got %x, want an error", name, sig)
		}
	}
	if _, err := signES256(saying(derOf(one, one)), make([]byte, 32)); err != nil {
		t.Errorf("got %v, want the smallest signature", err)
	}
}

// A signature has one DER: what is read and written again is the same.
func FuzzFixedSignature(f *testing.F) {
	private, err := newPrivate(kindP256)
	if err != nil {
		f.Fatal(err)
	}
	sig, err := private.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Fuzz(func(t *testing.T, der []byte) {
		fixed, err := signES256(saying(der), make([]byte, 32))
		if err != nil {
			return
		}
		if again := derOf(new(big.Int).SetBytes(fixed[:32]), new(big.Int).SetBytes(fixed[32:])); !bytes.Equal(again, der) {
			t.Errorf("%x and %x are the same signature", der, again)
		}
	})
}

func TestATokenThatFailsIsNoRefusal(t *testing.T) {
	private, err := newPrivate(kindP256)
	if err != nil {
		t.Fatal(err)
	}
	sign, err := jwtSigner(parrot{private, []byte("rubbish")}, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	_, err = sign([]byte("x"))
	if _, refused := errors.AsType[refusal](err); err == nil || refused {
		t.Errorf("got %v, want a fault of keyd's own", err)
	}
}

// saying is a key whose token returns this, whatever it is asked.
func saying(signature []byte) crypto.Signer { return parrot{says: signature} }

type parrot struct {
	crypto.Signer
	says []byte
}

func (p parrot) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return p.says, nil }
