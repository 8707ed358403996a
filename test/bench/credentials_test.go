package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateName is the name that every certificate but the gateway's is for, besides 127.0.0.1.
const certificateName = "bench.test"

// credentials are a self-signed certificate and its key, in memory and as PEM files.
type credentials struct {
	pair                            tls.Certificate
	certFile, keyFile, combinedFile string
}

func newCredentials(dir string) (c credentials, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{certificateName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return c, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return c, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	combined := append(cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	c = credentials{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "combined.pem")}
	for _, f := range []struct {
		name string
		text []byte
	}{{c.keyFile, combined[len(cert):]}, {c.combinedFile, combined}, {c.certFile, cert}} { // the last one is waited for
		if err := os.WriteFile(f.name, f.text, 0o600); err != nil {
			return c, err
		}
	}
	return c, nil
}
