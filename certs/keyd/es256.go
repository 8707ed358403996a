package keyd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// checkES256 tells whether a key can sign with ES256, RFC 7518 §3.4.
func checkES256(public crypto.PublicKey) error {
	if k, ok := public.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return errors.New("want an ECDSA key on curve P-256")
	}
	return nil
}

// signES256 signs a SHA-256 digest and returns r ‖ s, 32 bytes each: JOSE has no DER.
func signES256(private crypto.Signer, digest []byte) ([]byte, error) {
	der, err := private.Sign(rand.Reader, digest, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var r, s big.Int
	var sequence cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&sequence, asn1.SEQUENCE) || !input.Empty() || !sequence.ReadASN1Integer(&r) || !sequence.ReadASN1Integer(&s) ||
		!sequence.Empty() || !fits(&r) || !fits(&s) {
		return nil, errors.New("the key's own signature cannot be read")
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return raw, nil
}

// fits tells whether n is a half of a signature on P-256.
func fits(n *big.Int) bool { return n.Sign() > 0 && n.Cmp(elliptic.P256().Params().N) < 0 }
