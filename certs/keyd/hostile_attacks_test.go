package keyd

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// What the keys of the hostile gateway's keyd are for.
const (
	hostileAudience = "https://login.example/token"
	hostileOrigin   = "corp.example/audit/decision"
	hostileNotes    = "corp.example/audit/manifest"
	hostileLogSize  = 8 // of the true log
)

// trick is a message that a hostile gateway wants signed. It is tried with every operation and every key; what of that
// is lawful the judge knows.
type trick struct {
	name string
	data []byte
}

// attempts are made in this order: those at a log depend on each other.
func tricks(keys []prey, log *keydtest.Log) []trick {
	var all []trick
	all = append(all, rawTricks(keys)...)
	all = append(all, handshakeTricks()...)
	for _, k := range keys {
		all = append(all, tokenTricks(k)...)
	}
	all = append(all, checkpointTricks(log)...)
	return append(all, manifestTricks()...)
}

// rawTricks are bytes that mean something to somebody else.
func rawTricks(keys []prey) []trick {
	digest := sha256.Sum256([]byte("anything"))
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"wiki.corp.example"}}, other)
	if err != nil {
		panic(err)
	}
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"evil.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, other.Public(), other)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	all := []trick{
		{"nothing", nil},
		{"one byte", []byte{0}},
		{"a SHA-256 digest", digest[:]},
		{"a digest that is too short", digest[:31]},
		{"a digest and a byte", append(digest[:], 0)},
		{"a digest as PKCS #1 v1.5 has it", append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest[:]...)},
		{"48 bytes", make([]byte, 48)},
		{"64 bytes", make([]byte, 64)},
		{"a whole RSA block", append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, 254)...)},
		{"a certificate to be signed", certificate.RawTBSCertificate},
		{"a certificate", der},
		{"a certificate request to be signed", csr.RawTBSCertificateRequest},
		{"a certificate request", request},
		{"what SSH signs", append([]byte("SSHSIG\x00\x00\x00\x03git"), digest[:]...)},
		{"the first bytes of HTTP", []byte("GET / HTTP/1.1\r\nHost: wiki.corp.example\r\n\r\n")},
		{"as much as fits", bytes.Repeat([]byte(" "), wire.MaxRequest-5-32)},
	}
	for _, k := range keys { // a request for a certificate of the key itself
		public, err := x509.MarshalPKIXPublicKey(k.public)
		if err != nil {
			panic(err)
		}
		all = append(all, trick{"the public half of " + k.Name, public})
	}
	return all
}

// handshakeTricks are about TLS: lengths, contexts, sides, versions.
func handshakeTricks() []trick {
	verify := func(context string, n int) []byte {
		return []byte(strings.Repeat(" ", 64) + context + strings.Repeat("h", n))
	}
	server, client := "TLS 1.3, server CertificateVerify\x00", "TLS 1.3, client CertificateVerify\x00"
	all := []trick{
		{"exporter", verify("TLS 1.3, exporter master secret\x00", 32)},
		{"no NUL", verify(strings.TrimSuffix(server, "\x00"), 33)},
		{"another case", verify(strings.ToUpper(server), 32)},
		{"delegated credential, RFC 9345", verify("TLS, server delegated credentials\x00", 32)},
		{"exported authenticator, RFC 9261", verify("Exported Authenticator\x00", 32)},
		{"a space less", verify(server, 32)[1:]},
		{"a space more", append([]byte(" "), verify(server, 32)...)},
		{"tabs", bytes.ReplaceAll(verify(server, 32), []byte(" "), []byte("\t"))},
		{"twice", append(verify(server, 32), verify(server, 32)...)},
		{"both sides", append(verify(server, 32), verify(client, 32)...)},
		{"the digest of one", func() []byte { d := sha256.Sum256(verify(server, 32)); return d[:] }()},
		{"TLS 1.2 client: all its handshake", append([]byte{1, 0, 0, 200, 3, 3}, make([]byte, 400)...)},
	}
	for _, n := range []int{0, 20, 31, 32, 33, 36, 40, 47, 48, 49, 64} {
		all = append(all, trick{fmt.Sprintf("server, a transcript of %d bytes", n), verify(server, n)},
			trick{fmt.Sprintf("client, a transcript of %d bytes", n), verify(client, n)})
	}
	return append(all, exchangeTricks()...)
}

// exchangeTricks are ServerECDHParams of TLS 1.2, and what is none.
func exchangeTricks() []trick {
	point := func(c ecdh.Curve) []byte {
		k, err := c.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		return k.PublicKey().Bytes()
	}
	build := func(random, mark string, curveType byte, group uint16, length int, public []byte) []byte {
		m := append([]byte(random), mark...)
		m = binary.BigEndian.AppendUint16(append(m, curveType), group)
		return append(append(m, byte(length)), public...)
	}
	random, mark := strings.Repeat("r", 32+24), "DOWNGRD\x01"
	p256, x25519 := point(ecdh.P256()), point(ecdh.X25519())
	offCurve := bytes.Clone(p256)
	offCurve[40] ^= 1
	return []trick{
		{"1.2: P-256", build(random, mark, 3, 23, 65, p256)},
		{"1.2: P-384", build(random, mark, 3, 24, 97, point(ecdh.P384()))},
		{"1.2: P-521", build(random, mark, 3, 25, 133, point(ecdh.P521()))},
		{"1.2: X25519", build(random, mark, 3, 29, 32, x25519)},
		{"1.2: randoms of spaces", build(strings.Repeat(" ", 56), mark, 3, 29, 32, x25519)},
		{"1.2: no downgrade mark", build(random, "rrrrrrrr", 3, 29, 32, x25519)},
		{"1.2: the mark of 1.1", build(random, "DOWNGRD\x00", 3, 29, 32, x25519)},
		{"1.2: a curve of one's own", build(random, mark, 1, 23, 65, p256)},
		{"1.2: another group", build(random, mark, 3, 22, 65, p256)},
		{"1.2: a group of finite fields", build(random, mark, 3, 256, 65, p256)},
		{"1.2: a hybrid group", build(random, mark, 3, 0x11ec, 65, p256)},
		{"1.2: not on the curve", build(random, mark, 3, 23, 65, offCurve)},
		{"1.2: compressed", build(random, mark, 3, 23, 33, append([]byte{2}, p256[1:33]...))},
		{"1.2: another length", build(random, mark, 3, 29, 31, x25519)},
		{"1.2: a byte more", append(build(random, mark, 3, 29, 32, x25519), 0)},
		{"1.2: no key", build(random, mark, 3, 29, 0, nil)},
		{"1.2: randoms only", []byte(random + mark)},
	}
}

// tokenTricks are JWTs that name a key, each wrong in one way; two are right for a key of their purpose.
func tokenTricks(k prey) []trick {
	now := time.Now().Unix()
	header := fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":"JWT"}`, k.ID)
	app := fmt.Sprintf(`{"iss":"https://auth.corp.example","sub":"ada","aud":"https://wiki.corp.example","iat":%d,"exp":%d}`, now, now+60)
	idp := fmt.Sprintf(`{"iss":"sallyport","sub":"sallyport","aud":%q,"jti":"1","iat":%d,"exp":%d}`, hostileAudience, now, now+60)
	all := []trick{
		{"a right assertion", jws(header, app)}, {"a right client assertion", jws(header, idp)},
		{"client authentication", jws(strings.Replace(header, "JWT", "client-authentication+jwt", 1), idp)},
	}
	if k.Purpose != wire.Assertion && k.Purpose != wire.OIDCClient {
		return all // with another key's id there is one thing wrong already
	}
	good := map[wire.Purpose]string{wire.Assertion: app, wire.OIDCClient: idp}[k.Purpose]
	for _, change := range [][2]string{
		{`"ES256"`, `"none"`}, {`"ES256"`, `"HS256"`}, {`"ES256"`, `"ES384"`}, {`"ES256"`, `"es256"`}, {`"ES256"`, `null`},
		{k.ID, "AAAA"}, {k.ID, ""}, {`"JWT"`, `"at+jwt"`}, {`"JWT"`, `"jwt"`}, {`,"typ":"JWT"`, ``},
		{`"typ"`, `"crit":["b64"],"b64":false,"typ"`}, {`"typ"`, `"jku":"https://evil.example","typ"`}, {`"typ"`, `"x5c":[],"typ"`},
		{`"typ"`, `"alg":"ES256","typ"`}, {`"typ"`, `"ALG":"none","typ"`}, {`{`, `[{`}, {`}`, `}}`}, {`}`, ``},
	} {
		all = append(all, trick{"header: " + change[0] + " → " + change[1], jws(strings.Replace(header, change[0], change[1], 1), good)})
	}
	for _, change := range claimChanges(now) {
		if bad := strings.Replace(good, change[0], change[1], 1); bad != good {
			all = append(all, trick{"claims: " + change[0] + " → " + change[1], jws(header, bad)})
		}
	}
	many := strings.Replace(good, `"sub"`, manyMembersOf(70)+`"sub"`, 1)
	token := jws(header, good)
	return append(all,
		trick{"many claims", jws(header, many)},
		trick{"not UTF-8", jws(header, strings.Replace(good, `"sub":"`, "\"x\":\"\xff\",\"sub\":\"", 1))},
		trick{"a whole token", append(bytes.Clone(token), ".c2ln"...)},
		trick{"one part", bytes.ReplaceAll(token, []byte("."), nil)},
		trick{"padded", append(bytes.Clone(token), '=')},
		trick{"a line break", bytes.Replace(token, []byte("."), []byte("\n."), 1)},
		trick{"bits that are left over", lastBits(header, good)},
		trick{"the other alphabet", bytes.Replace(jws(header, strings.Replace(good, `"sub":"`, `"x":"ü?>~?>~","sub":"`, 1)), []byte("_"), []byte("/"), -1)},
		trick{"parts that changed places", jws(good, header)},
		trick{"no header", jws("{}", good)},
		trick{"nothing claimed", jws(header, "{}")},
	)
}

func jws(header, claims string) []byte {
	return []byte(base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)))
}

// lastBits is a token whose last digit has bits set that say nothing.
func lastBits(header, claims string) []byte {
	for len(claims)%3 != 1 { // so that four bits are left over
		claims = strings.Replace(claims, `":`, `": `, 1)
	}
	b := jws(header, claims)
	b[len(b)-1]++
	return b
}

func claimChanges(now int64) [][2]string {
	iat, exp := fmt.Sprintf(`"iat":%d`, now), fmt.Sprintf(`"exp":%d`, now+60)
	changes := [][2]string{
		{iat, fmt.Sprintf(`"iat":%d`, now-3600)}, {iat, fmt.Sprintf(`"iat":%d`, now+3600)}, {iat, fmt.Sprintf(`"iat":"%d"`, now)},
		{iat, fmt.Sprintf(`"iat":%d.5`, now)}, {iat + ",", ""}, {exp, fmt.Sprintf(`"exp":%d`, now+301)}, {exp, fmt.Sprintf(`"exp":%d`, now-1)},
		{exp, `"exp":1e99`}, {exp, `"exp":9223372036854775808`}, {"," + exp, ""}, {exp, exp + "," + exp}, {exp, exp + `,"EXP":1`},
		{`"sub":"ada"`, `"sub":""`}, {`"sub":"ada",`, ``}, {`"sub":"ada"`, `"sub":1`}, {`"sub":"ada"`, `"sub":"ada","sub":"root"`},
		{`"sub":"ada"`, `"sub":"ada","Sub":"root"`}, {`"sub":"ada"`, `"sub":"ada","\u0073ub":"root"`}, {`"sub":"sallyport"`, `"sub":"other"`},
		{`"iss":"sallyport"`, `"iss":"other"`}, {`"jti":"1"`, `"jti":""`}, {`"jti":"1",`, ``}, {`"jti":"1"`, `"jti":1`}, {`{`, `[{`}, {`}`, `}}`},
	}
	for _, iss := range []string{"https://evil.example", "https://auth.corp.example/", "HTTPS://auth.corp.example", ""} {
		changes = append(changes, [2]string{`"iss":"https://auth.corp.example"`, `"iss":"` + iss + `"`})
	}
	for _, aud := range []string{`"https://evil.example"`, `"http://wiki.corp.example"`, `"https://wiki.corp.example:8443"`, `"https://a.b.corp.example"`,
		`"https://evil@wiki.corp.example"`, `"https://*.corp.example"`, `["https://wiki.corp.example","https://evil.example"]`, `[]`, `""`, `null`, `{}`,
		`"https://wiki.corp.example/"`, `"` + hostileAudience + `/"`, `["` + hostileAudience + `","https://evil.example"]`} {
		changes = append(changes, [2]string{`"aud":"https://wiki.corp.example"`, `"aud":` + aud}, [2]string{`"aud":"` + hostileAudience + `"`, `"aud":` + aud})
	}
	return changes
}

func manyMembersOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"m%d":1,`, i)
	}
	return b.String()
}

// checkpointTricks grow the log to 3 and to 8 leaves, and then try everything else.
func checkpointTricks(log *keydtest.Log) []trick {
	fork, stranger := log.Fork(5, "fork"), keydtest.NewLog(nil, "stranger")
	grow := func(old uint64, proof [][32]byte, body []byte) []byte {
		return wire.Growth{Old: old, Proof: proof, Body: body}.AppendText(nil)
	}
	body := func(n uint64) []byte { return log.Body(hostileOrigin, n) }
	return []trick{
		{"first", grow(0, nil, body(3))},
		{"grown", grow(3, log.Proof(3, 8), body(8))},
		{"the same again", grow(8, nil, body(8))},
		{"the same, an answer was lost", grow(3, log.Proof(3, 8), body(8))},
		{"shrunk", grow(8, nil, body(3))},
		{"shrunk, with the proof", grow(8, log.Proof(3, 8), body(3))},
		{"emptied", grow(8, nil, body(0))},
		{"another root of the same size", grow(8, nil, fork.Body(hostileOrigin, 8))},
		{"a stranger's tree", grow(8, nil, stranger.Body(hostileOrigin, 8))},
		{"forked", grow(8, fork.Proof(8, 11), fork.Body(hostileOrigin, 11))},
		{"forked, from where both were alike", grow(5, fork.Proof(5, 11), fork.Body(hostileOrigin, 11))},
		{"begun anew", grow(0, nil, fork.Body(hostileOrigin, 11))},
		{"grown without a proof", grow(8, nil, fork.Body(hostileOrigin, 9))},
		{"unknown origin", grow(0, nil, log.Body("corp.example/audit/other", 3))},
		{"an epoch that is not open", grow(0, nil, log.Body(hostileOrigin+"/2", 3))},
		{"the origin of the manifests", grow(0, nil, log.Body(hostileNotes, 3))},
		{"an extension line", grow(8, fork.Proof(8, 11), fork.Body(hostileOrigin, 11, "more"))},
		{"a past that there was not", grow(8, nil, log.Body(hostileOrigin, 8, wire.Checkpoint{Origin: hostileNotes}.PreviousLine()))},
		{"size 0 of something", grow(0, nil, bytes.Replace(log.Body(hostileControl, 3), []byte("\n3\n"), []byte("\n0\n"), 1))},
		{"a proof of the first", grow(0, log.Proof(3, 8), log.Body(hostileControl, 3))},
		{"a checkpoint and no request", body(8)},
		{"a signed note", append(body(8), "\n— corp.example/audit/decision AAAA\n"...)},
		{"the largest size", grow(8, make([][32]byte, 63), wire.Checkpoint{Origin: hostileOrigin, Size: wire.MaxSize}.AppendText(nil))},
		{"too long a proof", grow(8, make([][32]byte, 64), body(8))},
		{"a size with a zero before it", bytes.Replace(grow(8, nil, body(8)), []byte("\n8\n"), []byte("\n08\n"), 1)},
		{"a handshake in a note", grow(0, nil, []byte(strings.Repeat(" ", 64)+"TLS 1.3, server CertificateVerify\x00"+strings.Repeat("h", 32)))},
		{"an origin", []byte(hostileOrigin)},
		{"an origin that there is not", []byte("corp.example/audit/other")},
	}
}

// hostileControl is a second log of the same key, of which nothing is ever signed.
const hostileControl = "corp.example/audit/control"

func manifestTricks() []trick {
	good := string(wire.ManifestText(hostileNotes, [32]byte{7}))
	return []trick{
		{"a manifest", []byte(good)},
		{"a manifest under a log's name", wire.ManifestText(hostileOrigin, [32]byte{7})},
		{"a manifest of another version", []byte(strings.Replace(good, "v1", "v2", 1))},
		{"a manifest and a line", []byte(good + "more\n")},
		{"a manifest without its end", []byte(strings.TrimSuffix(good, "\n"))},
		{"a manifest with a short sum", []byte(good[:len(good)-3] + "\n")},
		{"a manifest in capitals", []byte(strings.Replace(good, "07", "0A", 1))},
		{"a manifest as a checkpoint", wire.Growth{Body: []byte(good)}.AppendText(nil)},
		{"a name of the manifests", []byte(hostileNotes)},
		{"a succession", wire.SuccessionText(wire.Checkpoint{Origin: hostileOrigin}, "a+b+c", "d+e+f")},
	}
}

// request is a body of make_csr, adopt_key or rotate. Names are those that it may get a certificate for; nil if none.
type request struct {
	op    wire.Op
	body  string
	names []string
}

// requests ask for keys, for one's own names and for all kinds of others.
func requests(keys []prey) []request {
	ask := func(slot string, names ...string) request {
		b, err := json.Marshal(wire.CSRRequest{Slot: slot, Names: names})
		if err != nil {
			panic(err)
		}
		return request{wire.OpMakeCSR, string(b), nil}
	}
	good := ask("managed", "a.shop.example", "shop.example")
	good.names = []string{"a.shop.example", "shop.example"}
	all := []request{
		good, good, good, // the third is one too many
		ask("managed", "evil.example"), ask("managed", "a.b.shop.example"), ask("managed", "shop.example", "evil.example"), ask("managed"),
		ask("managed", "*.example"), ask("managed", "*"), ask("managed", ""), ask("managed", ".shop.example"), ask("managed", "a.shop.example."),
		ask("managed", "A.SHOP.EXAMPLE"), ask("managed", "-a.shop.example"), ask("managed", "a_b.shop.example"), ask("managed", "evil.example\x00.shop.example"),
		ask("managed", "10.0.0.1"), ask("managed", "shop.example", "shop.example"), ask("managed", strings.Split(strings.Repeat("shop.example ", 101), " ")...),
		ask("wiki", "wiki.corp.example"), ask("says", "shop.example"), ask("account", "shop.example"), ask("nobody", "shop.example"), ask(""),
		{wire.OpMakeCSR, "", nil}, {wire.OpMakeCSR, "{}", nil}, {wire.OpMakeCSR, "null", nil}, {wire.OpMakeCSR, "[]", nil},
		{wire.OpMakeCSR, good.body + good.body, nil}, {wire.OpMakeCSR, good.body[:20], nil},
		{wire.OpMakeCSR, `{"slot":"managed","names":["shop.example"],"public":"AAAA"}`, nil},
		{wire.OpMakeCSR, `{"slot":"managed","names":["shop.example"],"subject":"CN=evil"}`, nil},
		{wire.OpMakeCSR, `{"slot":"managed","names":"shop.example"}`, nil},
		{wire.OpAdoptKey, "", nil}, {wire.OpAdoptKey, strings.Repeat("k", 32), nil}, {wire.OpAdoptKey, strings.Repeat("k", 33), nil},
		{wire.OpRotate, `{"name":"log","now":true}`, nil}, {wire.OpRotate, `{"name":"wiki"}`, nil}, {wire.OpRotate, "", nil},
	}
	for _, k := range keys {
		all = append(all, request{wire.OpAdoptKey, string(k.id[:]), nil}, request{wire.OpMakeCSR, string(k.id[:]) + good.body, nil},
			request{wire.OpRotate, fmt.Sprintf(`{"name":%q,"now":true}`, k.Name), nil})
	}
	return all
}
