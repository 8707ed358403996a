package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// prey is a key as a hostile gateway knows it, out of `list`.
type prey struct {
	wire.Key
	id     wire.KeyID
	public crypto.PublicKey
}

// judge knows what each operation may sign, by PROTOCOL.md and by nothing of keyd's own.
type judge struct {
	logs map[string]*keydtest.Log // by origin in use: the true ones
	last map[string]uint64        // their sizes as signed last
}

// law is what one operation may sign with a key of one purpose, and what its answer then is. An operation that is not
// here may sign nothing.
type law struct {
	op      wire.Op
	purpose wire.Purpose
	lawful  func(j *judge, k prey, message []byte) bool
	valid   func(k prey, message, answer []byte) bool
}

var laws = []law{
	{wire.OpSignTLS13Server, wire.TLSServer, handshakeOf("server"), isTLSSignature},
	{wire.OpSignTLS13Client, wire.TLSClient, handshakeOf("client"), isTLSSignature},
	{wire.OpSignTLS12Server, wire.TLSServer, (*judge).keyExchange, isTLSSignature},
	{wire.OpSignAssertion, wire.Assertion, (*judge).assertion, isES256},
	{wire.OpSignClientAssertion, wire.OIDCClient, (*judge).clientAssertion, isES256},
	{wire.OpSignACMEAccount, wire.ACMEAccount, func(_ *judge, _ prey, m []byte) bool { return len(m) == 32 }, isES256OfDigest},
	{wire.OpSignCheckpoint, wire.Checkpoints, (*judge).checkpoint, isCheckpoint},
	{wire.OpSignManifest, wire.Manifests, (*judge).manifest, func(k prey, m, a []byte) bool { return isNote(k, m, a) }},
	// Nothing is signed by these, whatever the key.
	{wire.OpCheckpointPosition, wire.Checkpoints, (*judge).origin, (prey).isPosition},
	{wire.OpSignSuccession, wire.Checkpoints, (*judge).origin, isNothing},
	{wire.OpSignSuccession, wire.Manifests, (*judge).origin, isNothing},
}

// check returns what is wrong with an answer of code OK, or "".
func (j *judge) check(op wire.Op, k prey, message, answer []byte) string {
	for _, l := range laws {
		if l.op != op || l.purpose != k.Purpose {
			continue
		}
		switch {
		case !l.lawful(j, k, message):
			return "is signed, and must not be"
		case !l.valid(k, message, answer):
			return "is signed in another way than it should be"
		}
		return ""
	}
	return "is signed with a key for something else"
}

// handshakeOf is RFC 8446 §4.4.3.
func handshakeOf(side string) func(*judge, prey, []byte) bool {
	form := regexp.MustCompile(`^ {64}TLS 1\.3, ` + side + ` CertificateVerify\x00`)
	return func(_ *judge, _ prey, m []byte) bool {
		at := form.FindIndex(m)
		return at != nil && (len(m)-at[1] == 32 || len(m)-at[1] == 48)
	}
}

// keyExchange is RFC 8422 §5.4 after the randoms, of which the server's is of a server that could do better.
func (j *judge) keyExchange(k prey, m []byte) bool {
	if !k.TLS12 || len(m) < 68 || string(m[56:64]) != "DOWNGRD\x01" || m[64] != 3 || m[65] != 0 || int(m[67]) != len(m)-68 {
		return false
	}
	curve := map[byte]ecdh.Curve{23: ecdh.P256(), 24: ecdh.P384(), 25: ecdh.P521(), 29: ecdh.X25519()}[m[66]]
	if curve == nil {
		return false
	}
	_, err := curve.NewPublicKey(m[68:])
	return err == nil
}

// claims reads a signing input that has one spelling only; nil for all others.
func claims(k prey, m []byte, types ...string) map[string]any {
	parts := strings.Split(string(m), ".")
	if len(parts) != 2 {
		return nil
	}
	header, body := object(parts[0]), object(parts[1])
	typ, _ := header["typ"].(string)
	if len(header) != 3 || header["alg"] != "ES256" || header["kid"] != k.ID || !slices.Contains(types, typ) {
		return nil
	}
	iat, err1 := integerOf(body["iat"])
	exp, err2 := integerOf(body["exp"])
	if err1 != nil || err2 != nil || exp <= iat || exp > iat+300 || time.Since(time.Unix(iat, 0)).Abs() > time.Minute {
		return nil
	}
	return body
}

func integerOf(v any) (int64, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("no number")
	}
	return n.Int64()
}

// object decodes a part of a JWT, in which no name comes twice.
func object(part string) map[string]any {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || base64.RawURLEncoding.EncodeToString(data) != part || bytes.ContainsRune(data, '\uFFFD') {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var o map[string]any
	if d.Decode(&o) != nil {
		return nil
	}
	if _, err := d.Token(); err != io.EOF {
		return nil
	}
	// Names that come twice, or twice but for their case, vanish when they are keys of a map of lower case.
	lower := map[string]bool{}
	for name := range o {
		lower[strings.ToLower(name)] = true
	}
	if len(lower) != len(o) || countMembers(data) != len(o) {
		return nil
	}
	return o
}

// members counts the names of the outermost object.
func countMembers(data []byte) int {
	d := json.NewDecoder(bytes.NewReader(data))
	d.Token()
	n := 0
	for ; d.More(); n++ {
		var v json.RawMessage
		if _, err := d.Token(); err != nil || d.Decode(&v) != nil {
			return -1
		}
	}
	return n
}

func (j *judge) assertion(k prey, m []byte) bool {
	c := claims(k, m, "JWT")
	aud, _ := c["aud"].(string)
	if list, ok := c["aud"].([]any); ok && len(list) == 1 {
		aud, _ = list[0].(string)
	}
	sub, _ := c["sub"].(string)
	u, err := url.Parse(aud)
	return err == nil && sub != "" && c["iss"] == "https://auth.corp.example" && aud == "https://"+u.Host &&
		regexp.MustCompile(`^[a-z0-9-]+\.corp\.example$`).MatchString(u.Host)
}

func (j *judge) clientAssertion(k prey, m []byte) bool {
	c := claims(k, m, "JWT", "client-authentication+jwt")
	jti, _ := c["jti"].(string)
	aud := c["aud"]
	if list, ok := aud.([]any); ok && len(list) == 1 {
		aud = list[0]
	}
	return jti != "" && c["iss"] == k.ClientID && c["sub"] == k.ClientID && aud == hostileAudience
}

// checkpoint: what was signed last, or what the true log grew to from there, in the one spelling it has.
func (j *judge) checkpoint(k prey, m []byte) bool {
	for _, o := range k.Origins {
		log, last := j.logs[o.InUse], j.last[o.InUse]
		g, err := wire.ParseGrowth(m)
		if err != nil {
			continue
		}
		for size := last; size <= hostileLogSize; size++ {
			body := log.Body(o.InUse, size)
			if size == last && bytes.Equal(g.Body, body) {
				return true
			}
			if bytes.Equal(m, wire.Growth{Old: last, Proof: log.Proof(last, size), Body: body}.AppendText(nil)) {
				j.last[o.InUse] = size
				return true
			}
		}
	}
	return false
}

func (j *judge) manifest(k prey, m []byte) bool {
	return regexp.MustCompile(`^` + regexp.QuoteMeta(k.Origins[0].Base) + `\nsallyport evidence manifest v1\nsha256 [0-9a-f]{64}\n$`).Match(m)
}

func (j *judge) origin(k prey, m []byte) bool {
	return slices.ContainsFunc(k.Origins, func(o wire.Origin) bool { return o.Base == string(m) })
}

func isTLSSignature(k prey, m, sig []byte) bool {
	digest := sha256.Sum256(m)
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, digest[:], sig)
	case ed25519.PublicKey:
		return ed25519.Verify(pub, m, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(pub, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: 32}) == nil
	}
	return false
}

func isES256(k prey, m, sig []byte) bool {
	digest := sha256.Sum256(m)
	return isES256OfDigest(k, digest[:], sig)
}

func isES256OfDigest(k prey, digest, sig []byte) bool {
	pub, ok := k.public.(*ecdsa.PublicKey)
	return ok && pub.Curve == elliptic.P256() && len(sig) == 64 &&
		ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

func isCheckpoint(k prey, m, answer []byte) bool {
	g, err := wire.ParseGrowth(m)
	return err == nil && isNote(k, g.Body, answer)
}

// isNote demands one line, by this key, under the name in the text's first line.
func isNote(k prey, text, lines []byte) bool {
	name, _, _ := strings.Cut(string(text), "\n")
	pub, ok := k.public.(ed25519.PublicKey)
	if !ok {
		return false
	}
	line, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		return false
	}
	v, err := note.NewVerifier(line)
	if err != nil {
		return false
	}
	n, err := note.Open(append(append(bytes.Clone(text), '\n'), lines...), note.VerifierList(v))
	return err == nil && len(n.Sigs) == 1 && len(n.UnverifiedSigs) == 0 && n.Text == string(text)
}

func (k prey) isPosition(_, answer []byte) bool {
	_, err := wire.ParseCheckpoint(answer)
	return err == nil
}

func isNothing(_ prey, _, answer []byte) bool { return len(answer) == 0 }

// isRequestFor tells whether the answer to make_csr asks for these names only, with a key that is in no list.
func isRequestFor(names []string, known []prey, answer []byte) bool {
	id, der, err := wire.SplitSignBody(answer)
	if err != nil {
		return false
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil || r.CheckSignature() != nil {
		return false
	}
	own, err := wire.ID(r.PublicKey)
	isOld := slices.ContainsFunc(known, func(k prey) bool { return k.id == own })
	return err == nil && own == id && !isOld && slices.Equal(r.DNSNames, names) && r.Subject.String() == "" && len(r.Extensions) == 1 &&
		len(r.IPAddresses)+len(r.EmailAddresses)+len(r.URIs) == 0
}
