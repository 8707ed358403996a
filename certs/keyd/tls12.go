package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/binary"
	"errors"

	"sallyport/certs/internal/wire"
)

// exchange12 is what a TLS 1.2 server signs in an ECDHE handshake: both randoms and its half of the key agreement, RFC
// 8422 §5.4.
type exchange12 struct {
	clientRandom [32]byte
	serverRandom [32]byte
	group        uint16 // RFC 8422 §5.1.1
	public       []byte
}

// downgraded ends the server random of whoever could speak TLS 1.3 and was asked for less: RFC 8446 §4.1.3. The gateway
// always could. A client that could too breaks off when it sees this, so that nobody between can hold the two back.
const downgraded = "DOWNGRD\x01"

// namedCurve is the only curve_type there is, RFC 8422 §5.4. It is byte 64 of a message, where each TLS 1.3 message has a T.
const namedCurve = 3

// groupOf returns the curve of a group that crypto/tls offers in TLS 1.2; nil for others.
func groupOf(id uint16) ecdh.Curve {
	switch id {
	case 23:
		return ecdh.P256()
	case 24:
		return ecdh.P384()
	case 25:
		return ecdh.P521()
	case 29:
		return ecdh.X25519()
	}
	return nil
}

// parseExchange12 reads what append wrote, and nothing else: one message for one exchange.
func parseExchange12(message []byte) (exchange12, error) {
	bad := refusal("not the parameters of a TLS 1.2 ECDHE handshake")
	var x exchange12
	if len(message) < 68 {
		return x, bad
	}
	copy(x.clientRandom[:], message)
	copy(x.serverRandom[:], message[32:])
	params := message[64:]
	if params[0] != namedCurve {
		return x, bad
	}
	x.group, x.public = binary.BigEndian.Uint16(params[1:]), params[4:]
	if int(params[3]) != len(x.public) {
		return x, bad
	}
	curve := groupOf(x.group)
	if curve == nil {
		return x, refusal("not a group of TLS 1.2")
	}
	// NewPublicKey takes X25519's 32 bytes, or an uncompressed point that is on the curve.
	if _, err := curve.NewPublicKey(x.public); err != nil {
		return x, refusal("not a public key of its group")
	}
	if !bytes.HasSuffix(x.serverRandom[:], []byte(downgraded)) {
		return x, refusal("the server random does not say that TLS 1.3 was possible")
	}
	return x, nil
}

// append writes the message.
func (x *exchange12) append(b []byte) []byte {
	b = append(append(b, x.clientRandom[:]...), x.serverRandom[:]...)
	b = append(binary.BigEndian.AppendUint16(append(b, namedCurve), x.group), byte(len(x.public)))
	return append(b, x.public...)
}

// tls12Signer returns how a key that is marked for it signs the ServerKeyExchange of TLS 1.2.
//
// Ed25519 keys cannot be marked. Between and after the fixed bytes of a message a peer that chooses the randoms and an
// own point of P-521 has room for a certificate request of such a key, in DER. ECDSA's and RSA's public halves do not fit:
// they are longer than any part that can be chosen.
func tls12Signer(private crypto.Signer) (func(message []byte) ([]byte, error), error) {
	if _, ok := private.Public().(ed25519.PublicKey); ok {
		return nil, errors.New("tls12: an Ed25519 key cannot serve TLS 1.2; use ECDSA")
	}
	return tlsSigner(private, func(message []byte) error {
		_, err := parseExchange12(message)
		return err
	})
}

// job is what the key is for, for people.
func (k *key) job() string {
	if k.Purpose == wire.TLSServer && k.sign12 == nil {
		return string(k.Purpose) + " in TLS 1.3 only"
	}
	return string(k.Purpose)
}
