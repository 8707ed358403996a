package keyd_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"strings"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd"
	"sallyport/certs/keyd/keydtest"
)

// KEY-05: whatever a hostile gateway sends to whichever operation with whichever key, only the one well-formed message
// of the one right operation is signed.
func TestKEY05NoSigningOracle(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	p := dial(t, s)
	wiki, says, login, mutual, logs, evidence := id(t, all[0]), id(t, all[3]), id(t, all[4]), id(t, all[5]), id(t, all[6]), id(t, all[7])
	log := keydtest.NewLog(t, "log")
	body := log.Body(decision, 3)
	growth := wire.Growth{Body: body}.AppendText(nil)
	digest := sha256.Sum256([]byte("anything"))
	manifest := wire.ManifestText("corp.example/audit/manifest", digest)
	clientVerify := strings.Replace(certificateVerify, "server", "client", 1)
	clientDigest := sha256.Sum256([]byte(clientVerify))
	now := time.Now().Unix()
	account, old := id(t, all[8]), id(t, all[9])

	right := map[wire.Op]wire.KeyID{wire.OpSignTLS13Server: wiki, wire.OpSignAssertion: says, wire.OpSignClientAssertion: login,
		wire.OpSignTLS13Client: mutual, wire.OpSignCheckpoint: logs, wire.OpSignManifest: evidence,
		wire.OpSignACMEAccount: account, wire.OpSignTLS12Server: old}
	messages := map[string]struct {
		op   wire.Op // the one that signs it; 0: none
		data []byte
	}{
		"CertificateVerify":        {wire.OpSignTLS13Server, []byte(certificateVerify)},
		"assertion":                {wire.OpSignAssertion, assertion(t, says)},
		"client assertion":         {wire.OpSignClientAssertion, clientAssertion(t, login)},
		"nothing":                  {0, nil},
		"a digest":                 {wire.OpSignACMEAccount, digest[:]},
		"a certificate":            {0, tbs(t)},
		"client's verify":          {wire.OpSignTLS13Client, []byte(clientVerify)},
		"client's, SHA-384":        {wire.OpSignTLS13Client, []byte(clientVerify + strings.Repeat("h", 16))},
		"client's, 31 bytes":       {0, []byte(clientVerify[:len(clientVerify)-1])},
		"client's, 40 bytes":       {0, []byte(clientVerify + "hhhhhhhh")},
		"client's, its digest":     {wire.OpSignACMEAccount, clientDigest[:]},
		"client's, twice":          {0, []byte(clientVerify + clientVerify)},
		"neither's verify":         {0, []byte(strings.Replace(certificateVerify, "server", "SERVER", 1))},
		"TLS 1.2 client's":         {0, append([]byte{1, 0, 0, 200, 3, 3}, make([]byte, 400)...)}, // a handshake, from ClientHello on
		"TLS 1.2 key exchange":     {0, append(make([]byte, 64), 3, 0, 23, 65)},
		"TLS 1.2":                  {wire.OpSignTLS12Server, keyExchange12(t, "DOWNGRD\x01")},
		"TLS 1.2 of an old server": {0, keyExchange12(t, "abcdefgh")},
		"TLS 1.1 of a server":      {0, keyExchange12(t, "DOWNGRD\x00")},
		"TLS 1.2, two":             {0, append(keyExchange12(t, "DOWNGRD\x01"), keyExchange12(t, "DOWNGRD\x01")...)},
		"longer transcript":        {0, []byte(certificateVerify + "x")},
		"assertion of another":     {0, jwt(t, says, map[string]any{"iss": "https://evil.example", "aud": "https://wiki.corp.example", "sub": "a", "iat": now, "exp": now + 60})},
		"assertion for another":    {0, jwt(t, says, map[string]any{"iss": "https://auth.corp.example", "aud": "https://evil.example", "sub": "a", "iat": now, "exp": now + 60})},
		"assertion for a year":     {0, jwt(t, says, map[string]any{"iss": "https://auth.corp.example", "aud": "https://wiki.corp.example", "sub": "a", "iat": now, "exp": now + 31e6})},
		"assertion, TLS key's id":  {0, assertion(t, wiki)},
		"a whole token":            {0, append(assertion(t, says), ".c2ln"...)},
		"checkpoint":               {wire.OpSignCheckpoint, growth},
		"checkpoint, no request":   {0, body},
		"manifest":                 {wire.OpSignManifest, manifest},
		"manifest as checkpoint":   {0, wire.Growth{Body: manifest}.AppendText(nil)},
		"manifest, another name":   {0, wire.ManifestText(decision, digest)},
		"manifest, upper case":     {0, bytes.Replace(manifest, []byte("sha256 "), []byte("SHA256 "), 1)},
		"manifest, a line more":    {0, append(manifest[:len(manifest):len(manifest)], "more\n"...)},
		"manifest, no line break":  {0, manifest[:len(manifest)-1]},
		"manifest, short sum":      {0, append(manifest[:len(manifest)-3:len(manifest)-3], '\n')},
		"manifest, capital sum":    {0, append(bytes.Clone(manifest[:len(manifest)-65]), append(bytes.ToUpper(manifest[len(manifest)-65:len(manifest)-1]), '\n')...)},
		"handshake in a note":      {0, append([]byte("old 0\n\n"), certificateVerify...)},
		"token in a note":          {0, append([]byte("old 0\n\n"), assertion(t, says)...)},
	}
	for name, m := range messages {
		for op, key := range right {
			code, body := p.ask(op, wire.SignBody(key, m.data))
			if want := map[bool]wire.Code{true: wire.OK, false: wire.Refused}[op == m.op]; code != want {
				t.Errorf("%s of %s: got %s %q, want %s", op, name, code, body, want)
			}
			for other, foreign := range right {
				if other == op || op == wire.OpSignTLS13Server && other == wire.OpSignTLS12Server {
					continue // a key that is marked for TLS 1.2 signs for 1.3 too
				}
				if code, _ := p.ask(op, wire.SignBody(foreign, m.data)); code != wire.WrongPurpose {
					t.Errorf("%s of %s with the key for %s: got %s, want %s", op, name, other, code, wire.WrongPurpose)
				}
			}
			if code, _ := p.ask(op, wire.SignBody(wire.KeyID{1, 2, 3}, m.data)); code != wire.UnknownKey {
				t.Errorf("%s of %s with no such key: got %s", op, name, code)
			}
		}
	}
	for op := range right {
		for n := range 32 {
			if code, _ := p.ask(op, make([]byte, n)); code != wire.Malformed {
				t.Errorf("%s with a body of %d bytes: got %s, want %s", op, n, code, wire.Malformed)
			}
		}
	}
	for _, op := range []wire.Op{wire.OpList, wire.OpStatus} {
		if code, _ := p.ask(op, []byte{0}); code != wire.Malformed {
			t.Errorf("%s with a body: got %s, want %s", op, code, wire.Malformed)
		}
	}
	for op := range 256 {
		if op >= int(wire.OpList) && op <= int(wire.OpSignSuccession) {
			continue
		}
		if code, _ := p.ask(wire.Op(op), wire.SignBody(wiki, []byte(certificateVerify))); code != wire.UnknownOp {
			t.Errorf("operation %d: got %s, want %s", op, code, wire.UnknownOp)
		}
	}

	st, err := keyd.AskStatus(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []wire.Code{wire.Refused, wire.WrongPurpose, wire.UnknownKey, wire.Malformed, wire.UnknownOp} {
		if st.Refusals[code.String()] == 0 {
			t.Errorf("no %s was counted: %v", code, st.Refusals)
		}
	}
	for _, k := range st.Keys {
		if want := map[string]uint64{wiki.String(): 1, mutual.String(): 2}[k.ID]; want > 0 && (k.Signed != want || k.Refused == 0) {
			t.Errorf("key %s: got %d signed, %d refused, want %d and some", k.Name, k.Signed, k.Refused, want)
		}
	}
}

// tbs is what a certificate authority would sign.
func tbs(t *testing.T) []byte {
	t.Helper()
	return keydtest.SelfSigned(t, p256(t), []string{"evil.example"}, time.Now(), time.Now().Add(time.Hour)).RawTBSCertificate
}

// keyExchange12 is what a TLS 1.2 server signs, with a client whose random is nothing but spaces.
func keyExchange12(t testing.TB, mark string) []byte {
	t.Helper()
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := append([]byte(strings.Repeat(" ", 32+24)+mark), 3, 0, 29, 32)
	return append(m, ephemeral.PublicKey().Bytes()...)
}

func TestSignaturesVerify(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	p := dial(t, s)
	digest := sha256.Sum256([]byte(certificateVerify))

	_, sig := p.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, all[0]), []byte(certificateVerify)))
	if !ecdsa.VerifyASN1(all[0].Private.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Error("the ECDSA signature does not verify")
	}
	_, sig = p.ask(wire.OpSignTLS13Server, wire.SignBody(id(t, all[1]), []byte(certificateVerify)))
	if !ed25519.Verify(all[1].Private.Public().(ed25519.PublicKey), []byte(certificateVerify), sig) {
		t.Error("the Ed25519 signature does not verify")
	}
}

// KEY-06: an RSA key is no decryption oracle and no PKCS #1 v1.5 signer: its operations sign handshakes
// with PSS, of TLS 1.3 and, marked for it, of 1.2.
func TestKEY06NoRSADecryption(t *testing.T) {
	all := keys(t)
	s := keydtest.Make(t, 0, []int{0}, all...)
	s.Start(t)
	p := dial(t, s)
	pub := all[2].Private.Public().(*rsa.PublicKey)
	padded := append([]byte{0, 2}, bytes.Repeat([]byte{7}, pub.Size()-2-1-16)...) // RFC 8017 §7.2.1
	padded = append(append(padded, 0), "premaster secret"...)
	cipher := new(big.Int).Exp(new(big.Int).SetBytes(padded), big.NewInt(int64(pub.E)), pub.N).FillBytes(make([]byte, pub.Size()))
	for op := range 256 {
		code, body := p.ask(wire.Op(op), wire.SignBody(id(t, all[2]), cipher))
		if code == wire.OK {
			t.Errorf("operation %d answered a ciphertext with %d bytes", op, len(body))
		}
	}
	for op, message := range map[wire.Op][]byte{wire.OpSignTLS13Server: []byte(certificateVerify), wire.OpSignTLS12Server: keyExchange12(t, "DOWNGRD\x01")} {
		code, sig := p.ask(op, wire.SignBody(id(t, all[2]), message))
		digest := sha256.Sum256(message)
		if err := rsa.VerifyPSS(pub, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: 32}); code != wire.OK || err != nil {
			t.Errorf("%s: got %s %v, want a PSS signature", op, code, err)
		}
		if rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) == nil {
			t.Errorf("%s: the signature is PKCS #1 v1.5", op)
		}
	}
}
