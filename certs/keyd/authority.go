package keyd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// authority is a development CA while Init runs. It vouches for one usage.
type authority struct {
	cert    *x509.Certificate
	private *ecdsa.PrivateKey
}

func newAuthority(domain string, usage x509.ExtKeyUsage, now time.Time) (*authority, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, v4, _ := net.ParseCIDR("0.0.0.0/0")
	_, v6, _ := net.ParseCIDR("::/0")
	title := "Development CA"
	if usage == x509.ExtKeyUsageClientAuth {
		title = "Development client CA" // apps tell authorities apart by name
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Sallyport development"}, CommonName: fmt.Sprintf("%s, %.40s", title, domain)},
		NotBefore:             now.Add(-time.Hour), // clocks of other machines
		NotAfter:              now.Add(-time.Hour + leafLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{usage},
		// RFC 5280 §4.2.1.10. Types that are not named are unconstrained, so addresses are excluded by name.
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{domain},
		PermittedEmailAddresses:     []string{domain},
		ExcludedIPRanges:            []*net.IPNet{v4, v6},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, private}, err
}

func (a *authority) vouchesFor(usage x509.ExtKeyUsage) bool {
	return slices.Contains(a.cert.ExtKeyUsage, usage)
}

func (a *authority) leaf(name string, public crypto.PublicKey) ([]byte, error) {
	subject := pkix.Name{Organization: []string{"Sallyport development"}}
	if a.vouchesFor(x509.ExtKeyUsageClientAuth) && len(name) <= 64 { // what a CN holds; browsers do not read it, apps do
		subject.CommonName = name
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               subject,
		DNSNames:              []string{name},
		NotBefore:             a.cert.NotBefore,
		NotAfter:              a.cert.NotAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           a.cert.ExtKeyUsage,
	}, a.cert, public, a.private)
}

// serial is random and positive: RFC 5280 §4.1.2.2.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
