package certs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
)

func clientKey(name string, private crypto.Signer) keydtest.Key {
	return keydtest.Key{Name: name, Purpose: "tls-client", Private: private}
}

func TestEveryBadClientFileIsNamedWithItsReason(t *testing.T) {
	now, k, server := time.Now(), ec(t, elliptic.P256()), ec(t, elliptic.P256())
	keys := localKeys{
		{keyring.Key{Name: "gateway", Purpose: keyring.PurposeTLSClient, Public: k.Public()}, k},
		local(server, "wiki", "wiki.corp.example"),
	}
	client := func(private crypto.Signer, from, until time.Duration) *x509.Certificate {
		return keydtest.SelfSignedClient(t, private, "gateway", now.Add(from), now.Add(until))
	}
	authority, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}, &x509.Certificate{}, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	unlimited, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.Add(time.Hour)},
		&x509.Certificate{}, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	block := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	for name, tt := range map[string]struct {
		content []byte
		checks  string // what CheckClientFile says; empty: nothing
		loads   string // what LoadClient says, if it gets further
	}{
		"good":              {block(client(k, -time.Hour, time.Hour).Raw), "", ""},
		"for anything":      {block(unlimited), "", ""},
		"expired":           {block(client(k, -2*time.Hour, -time.Hour).Raw), "expired", ""},
		"not yet":           {block(client(k, time.Hour, 2*time.Hour).Raw), "not yet valid", ""},
		"a server's":        {block(fresh(t, server, "wiki.corp.example").Raw), "not made for TLS clients", ""},
		"an authority's":    {block(authority), "an authority's", ""},
		"a private key":     {keydtest.PEM(t, k), "holds a private key", ""},
		"nothing":           {nil, "holds no certificate", ""},
		"not a chain":       {append(block(client(k, -time.Hour, time.Hour).Raw), block(client(server, -time.Hour, time.Hour).Raw)...), "not a chain", ""},
		"without a key":     {block(client(ec(t, elliptic.P256()), -time.Hour, time.Hour).Raw), "", "the key process holds no key for it"},
		"of a server's key": {block(client(server, -time.Hour, time.Hour).Raw), "", `its key "wiki" is for tls-server, not for tls-client`},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "client.pem")
			if err := os.WriteFile(file, tt.content, 0o644); err != nil {
				t.Fatal(err)
			}
			checked := certs.CheckClientFile(file)
			c, loaded := certs.LoadClient(t.Context(), file, keys)
			expect(t, "check", checked, tt.checks, file)
			expect(t, "load", loaded, tt.checks+tt.loads, file)
			if (loaded == nil) != (c != nil) {
				t.Errorf("got %v with error %v", c, loaded)
			}
		})
	}
	if err := certs.CheckClientFile("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "client.pem")
	keydtest.WriteChain(t, file, client(k, -time.Hour, time.Hour))
	if _, err := certs.LoadClient(t.Context(), file, away{}); !errors.Is(err, keyring.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, keyring.ErrUnavailable)
	}
}

// expect wants err to name the file and to say text, or to be nil if text is empty.
func expect(t *testing.T, what string, err error, text, file string) {
	t.Helper()
	if (err == nil) != (text == "") || err != nil && (!strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), file)) {
		t.Errorf("%s: got %v, want %q", what, err, text)
	}
}

// And the other way about: no host is served with a client's key.
func TestNoHostIsServedWithAClientsKey(t *testing.T) {
	k := ec(t, elliptic.P256())
	dir := t.TempDir()
	keydtest.WriteChain(t, filepath.Join(dir, "wiki.pem"), fresh(t, k, "wiki.corp.example"))
	_, err := load(dir, localKeys{{keyring.Key{Name: "gateway", Purpose: keyring.PurposeTLSClient, Public: k.Public()}, k}})
	if err == nil || !strings.Contains(err.Error(), `its key "gateway" is for tls-client, not for tls-server`) {
		t.Errorf("got %v", err)
	}
}

// app is an internal app with the given demands for client certificates. It sends back the common name it saw.
func app(t *testing.T, config *tls.Config) (address string, roots *x509.CertPool) {
	t.Helper()
	private := ec(t, elliptic.P256())
	cert := fresh(t, private, "app.corp.example")
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: private}}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(handshakeWithin))
			if err := c.(*tls.Conn).Handshake(); err != nil {
				t.Logf("the app says: %v", err)
			} else if seen := c.(*tls.Conn).ConnectionState().PeerCertificates; len(seen) > 0 {
				fmt.Fprint(c, seen[0].Subject.CommonName)
			}
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String(), roots
}

// demand is an app that demands a certificate of these authorities.
func demand(authorities *x509.CertPool) *tls.Config {
	return &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities}
}

type getClient = func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// visit connects to the app as the gateway does, and returns what it is told.
func visit(address string, roots *x509.CertPool, get getClient) (string, error) {
	d := &net.Dialer{Timeout: handshakeWithin}
	c, err := tls.DialWithDialer(d, "tcp", address, &tls.Config{
		ServerName: "app.corp.example", RootCAs: roots, MinVersion: tls.VersionTLS12, GetClientCertificate: get,
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(handshakeWithin))
	b, err := io.ReadAll(c)
	return string(b), err
}

func loadClient(t *testing.T, s *keydtest.Setup, name string, c *keyring.Client) *certs.Client {
	t.Helper()
	client, err := certs.LoadClient(t.Context(), s.ClientChain(name), c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAppsSeeTheGatewaysCertificate(t *testing.T) {
	keys := []keydtest.Key{
		clientKey("p256", ec(t, elliptic.P256())), clientKey("p384", ec(t, elliptic.P384())),
		clientKey("ed25519", ed(t)), clientKey("rsa", rsaKey()),
	}
	s := keydtest.Make(t, keydtest.KeydUID, []int{keydtest.GatewayUID, 0}, keys...)
	s.Start(t)
	ring := open(t, s)
	address, roots := app(t, demand(s.ClientRoots))
	for _, k := range keys {
		client := loadClient(t, s, k.Name, ring)
		if seen, err := visit(address, roots, client.GetClientCertificate); err != nil || seen != k.Name {
			t.Errorf("%s: the app saw %q %v", k.Name, seen, err)
		}
		if info := client.Certificate(); info.Key != k.Name || info.File != s.ClientChain(k.Name) || !info.NotAfter.After(time.Now()) {
			t.Errorf("%s: described as %+v", k.Name, info)
		}
	}
	if seen, err := visit(address, roots, nil); err == nil {
		t.Errorf("without a certificate the app saw %q", seen)
	}
}

// openssl is an app that is not written in Go. It prints the subject of the certificate it accepted.
func openssl(t *testing.T, s *keydtest.Setup, client, suite string) (address string, roots *x509.CertPool, said *bytes.Buffer, stop func()) {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("a TLS server that is not written in Go is needed, test/setup installs openssl: %v", err)
	}
	private := ec(t, elliptic.P256())
	cert := fresh(t, private, "app.corp.example")
	dir := t.TempDir()
	keydtest.WriteChain(t, filepath.Join(dir, "cert.pem"), cert)
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), keydtest.PEM(t, private), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = free.Addr().String()
	free.Close()
	cmd := exec.CommandContext(t.Context(), program, "s_server", "-accept", address, "-ciphersuites", suite,
		"-cert", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem"),
		"-CAfile", s.ClientChain(client), "-Verify", "1", "-verify_return_error", "-www")
	said = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	keydtest.Eventually(t, "openssl listens", func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	})
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	return address, roots, said, func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func TestOpenSSLSeesTheGatewaysCertificate(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, clientKey("gateway", ec(t, elliptic.P256())), clientKey("rsa", rsaKey()))
	s.Start(t)
	ring := open(t, s)
	for _, name := range []string{"gateway", "rsa"} {
		client := loadClient(t, s, name, ring)
		for _, suite := range []string{"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"} { // transcripts of 48 and 32 bytes
			address, roots, said, stop := openssl(t, s, name, suite)
			err := ask(address, roots, client.GetClientCertificate)
			stop()
			if err != nil || !strings.Contains(said.String(), "CN = "+name) {
				t.Errorf("%s, %s: got %v; openssl says %s", name, suite, err, said)
			}
		}
	}
}

// ask requests a page, so that the app's verdict on the certificate, which it gives after the handshake, is known.
func ask(address string, roots *x509.CertPool, get getClient) error {
	c, err := tls.Dial("tcp", address, &tls.Config{ServerName: "app.corp.example", RootCAs: roots, GetClientCertificate: get})
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(handshakeWithin))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, len("HTTP/1.0 200")))
	return err
}

// An app that speaks TLS 1.2 only is told apart from one that does not like us, and is never given another signature.
func TestClientCertificatesNeedTLS13(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, clientKey("gateway", ec(t, elliptic.P256())))
	s.Start(t)
	ring := open(t, s)
	client := loadClient(t, s, "gateway", ring)
	address, roots := app(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.ClientRoots, MaxVersion: tls.VersionTLS12})
	if _, err := visit(address, roots, client.GetClientCertificate); !errors.Is(err, certs.ErrTLS12) {
		t.Errorf("got %v, want %v", err, certs.ErrTLS12)
	}
	// KEY-05: a gateway that tried all the same.
	request := &tls.CertificateRequestInfo{Version: tls.VersionTLS13, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	cert, err := client.GetClientCertificate(request)
	if err != nil {
		t.Fatal(err)
	}
	_, err = visit(address, roots, func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil })
	if err == nil || !strings.Contains(err.Error(), keyring.ErrRefused.Error()) { // crypto/tls does not wrap it
		t.Errorf("got %v, want %v", err, keyring.ErrRefused)
	}
	// One that asks nobody is connected to over TLS 1.2 as ever.
	address, roots = app(t, &tls.Config{MaxVersion: tls.VersionTLS12})
	if seen, err := visit(address, roots, client.GetClientCertificate); err != nil || seen != "" {
		t.Errorf("an app that asks for no certificate: got %q %v", seen, err)
	}
}

func TestAppsThatWantAnotherCertificate(t *testing.T) {
	s := keydtest.Make(t, 0, []int{0}, clientKey("gateway", ec(t, elliptic.P256())))
	s.Start(t)
	client := loadClient(t, s, "gateway", open(t, s))
	other := x509.NewCertPool()
	other.AddCert(keydtest.SelfSignedClient(t, ec(t, elliptic.P256()), "somebody else", time.Now(), time.Now().Add(time.Hour)))
	address, roots := app(t, demand(other))
	if _, err := visit(address, roots, client.GetClientCertificate); !errors.Is(err, certs.ErrNotAccepted) || !strings.Contains(err.Error(), s.ClientChain("gateway")) {
		t.Errorf("other authorities: got %v, want %v and the file", err, certs.ErrNotAccepted)
	}
	_, err := client.GetClientCertificate(&tls.CertificateRequestInfo{Version: tls.VersionTLS13, SignatureSchemes: []tls.SignatureScheme{tls.Ed25519}})
	if !errors.Is(err, certs.ErrNotAccepted) {
		t.Errorf("other algorithms: got %v, want %v", err, certs.ErrNotAccepted)
	}
	// An optional certificate is no reason to go on as nobody.
	address, roots = app(t, &tls.Config{ClientCAs: other, ClientAuth: tls.VerifyClientCertIfGiven})
	if seen, err := visit(address, roots, client.GetClientCertificate); !errors.Is(err, certs.ErrNotAccepted) {
		t.Errorf("got %q %v, want %v", seen, err, certs.ErrNotAccepted)
	}
}

func TestAClientCertificateThatRanOutSaysSo(t *testing.T) {
	k := ec(t, elliptic.P256())
	file := filepath.Join(t.TempDir(), "client.pem")
	soon := time.Now().Add(4 * time.Second) // it is loaded before
	keydtest.WriteChain(t, file, keydtest.SelfSignedClient(t, k, "gateway", time.Now().Add(-time.Hour), soon))
	client, err := certs.LoadClient(t.Context(), file, localKeys{{keyring.Key{Name: "gateway", Purpose: keyring.PurposeTLSClient, Public: k.Public()}, k}})
	if err != nil {
		t.Fatal(err)
	}
	request := &tls.CertificateRequestInfo{Version: tls.VersionTLS13, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	keydtest.Eventually(t, "it ran out", func() error {
		if _, err := client.GetClientCertificate(request); !errors.Is(err, certs.ErrExpired) || !strings.Contains(err.Error(), file) {
			return fmt.Errorf("got %v, want %v", err, certs.ErrExpired)
		}
		return nil
	})
}

// KEY-05: a gateway that a stranger took over swaps the two ends' keys. Neither handshake comes about.
func TestKEY05NoHandshakeWithTheOtherEndsKey(t *testing.T) {
	server, client := tlsKey("wiki", ec(t, elliptic.P256())), clientKey("gateway", ec(t, elliptic.P256()))
	s := keydtest.Make(t, 0, []int{0}, server, client)
	s.Start(t)
	ring := open(t, s)
	list, err := ring.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address, roots := app(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert})
	for _, k := range list {
		der := keydtest.SelfSignedClient(t, map[string]crypto.Signer{"wiki": server.Private, "gateway": client.Private}[k.Name], k.Name,
			time.Now().Add(-time.Hour), time.Now().Add(time.Hour)).Raw
		for end, signer := range map[string]crypto.Signer{"server": ring.TLSServer(k), "client": ring.TLSClient(k)} {
			cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}
			_, err := visit(address, roots, func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil })
			if right := k.Name == "gateway" && end == "client"; right != (err == nil) {
				t.Errorf("as a client, with the key %s and the signer for the %s's end: got %v", k.Name, end, err)
			}
			listening := serve(t, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil })
			c, err := tls.Dial("tcp", listening, &tls.Config{InsecureSkipVerify: true})
			if err == nil {
				c.Close()
			}
			if right := k.Name == "wiki" && end == "server"; right != (err == nil) {
				t.Errorf("as a server, with the key %s and the signer for the %s's end: got %v", k.Name, end, err)
			}
		}
	}
}

// KEY-12, KEY-10: a certificate is replaced together with its key: what is loaded keeps to its own until it is loaded
// anew. While keyd is away, handshakes fail within their deadline.
func TestKEY12AClientsKeyIsReplaced(t *testing.T) {
	old, next := clientKey("gateway", ec(t, elliptic.P256())), clientKey("gateway", ec(t, elliptic.P256()))
	s := keydtest.Make(t, 0, []int{0}, old)
	p := s.Start(t)
	ring := open(t, s)
	first := loadClient(t, s, "gateway", ring)
	second := keydtest.SelfSignedClient(t, next.Private, "second", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	s.ClientRoots.AddCert(second)
	address, roots := app(t, demand(s.ClientRoots))
	if seen, err := visit(address, roots, first.GetClientCertificate); err != nil || seen != "gateway" {
		t.Fatalf("got %q %v", seen, err)
	}

	p.Kill()
	if _, err := visit(address, roots, first.GetClientCertificate); err == nil || !strings.Contains(err.Error(), keyring.ErrUnavailable.Error()) {
		t.Errorf("without keyd: got %v, want %v", err, keyring.ErrUnavailable)
	}
	s.WriteKey(t, next)
	s.Start(t)
	keydtest.Eventually(t, "keyd is back", ring.Ready)
	if _, err := certs.LoadClient(t.Context(), s.ClientChain("gateway"), ring); err == nil || !strings.Contains(err.Error(), "holds no key for it") {
		t.Errorf("the old certificate with the new key: got %v", err)
	}
	if _, err := visit(address, roots, first.GetClientCertificate); err == nil || !strings.Contains(err.Error(), "unknown_key") {
		t.Errorf("what was loaded before: got %v, want unknown_key", err)
	}
	keydtest.WriteChain(t, s.ClientChain("gateway"), second)
	anew := loadClient(t, s, "gateway", ring)
	if seen, err := visit(address, roots, anew.GetClientCertificate); err != nil || seen != "second" {
		t.Errorf("loaded anew: got %q %v", seen, err)
	}
	if again := loadClient(t, s, "gateway", ring); anew.Digest() == first.Digest() || anew.Digest() != again.Digest() {
		t.Errorf("digests: %s before, %s and %s after", first.Digest(), anew.Digest(), again.Digest())
	}
}

// A chain with an intermediate is sent whole: the app knows the root alone.
func TestIntermediatesAreSent(t *testing.T) {
	root, middle, leaf := ec(t, elliptic.P256()), ec(t, elliptic.P256()), ec(t, elliptic.P256())
	now := time.Now()
	issue := func(name string, ca bool, public crypto.PublicKey, by *x509.Certificate, key crypto.Signer) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour),
			NotAfter: now.Add(time.Hour), IsCA: ca, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if by == nil {
			by = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, by, public, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	rootCert := issue("root", true, root.Public(), nil, root)
	middleCert := issue("middle", true, middle.Public(), rootCert, root)
	file := filepath.Join(t.TempDir(), "client.pem")
	keydtest.WriteChain(t, file, issue("gateway", false, leaf.Public(), middleCert, middle), middleCert)
	client, err := certs.LoadClient(context.Background(), file, localKeys{{keyring.Key{Name: "gateway", Purpose: keyring.PurposeTLSClient, Public: leaf.Public()}, leaf}})
	if err != nil {
		t.Fatal(err)
	}
	known := x509.NewCertPool()
	known.AddCert(rootCert)
	address, roots := app(t, demand(known))
	if seen, err := visit(address, roots, client.GetClientCertificate); err != nil || seen != "gateway" {
		t.Errorf("got %q %v", seen, err)
	}
}
