// Package clienttest makes authorities, client certificates and revocation lists for tests.
package clienttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	lists       int64
}

// Change changes what is about to be signed.
type Change = func(*x509.Certificate)

// NewAuthority is one that nobody has issued.
func NewAuthority(t testing.TB, name string, changes ...Change) *Authority {
	t.Helper()
	return authority(t, nil, name, changes)
}

// Below is an authority that a issues.
func (a *Authority) Below(t testing.TB, name string, changes ...Change) *Authority {
	t.Helper()
	return authority(t, a, name, changes)
}

func authority(t testing.TB, by *Authority, name string, changes []Change) *Authority {
	t.Helper()
	template := template(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for _, change := range changes {
		change(template)
	}
	a := &Authority{key: newKey(t)}
	if by == nil {
		a.Certificate = sign(t, template, template, a.key, a.key)
	} else {
		a.Certificate = sign(t, template, by.Certificate, a.key, by.key)
	}
	return a
}

// Issue makes a client's certificate, for an hour from an hour ago unless changes say otherwise.
func (a *Authority) Issue(t testing.TB, name string, changes ...Change) tls.Certificate {
	t.Helper()
	template := template(name)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, change := range changes {
		change(template)
	}
	key := newKey(t)
	leaf := sign(t, template, a.Certificate, key, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// List is a revocation list in DER, each newer than the one before.
func (a *Authority) List(t testing.TB, until time.Time, revoked ...*x509.Certificate) []byte {
	t.Helper()
	return a.ListOf(t, &x509.RevocationList{NextUpdate: until}, revoked...)
}

// ListOf is List with what else the list says.
func (a *Authority) ListOf(t testing.TB, list *x509.RevocationList, revoked ...*x509.Certificate) []byte {
	t.Helper()
	a.lists++
	if list.Number == nil {
		list.Number = big.NewInt(a.lists)
	}
	if list.ThisUpdate.IsZero() {
		list.ThisUpdate = time.Now().Add(-time.Hour)
	}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Certificate, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// PEM is the certificates of authorities in one text.
func PEM(authorities ...*Authority) []byte {
	var b bytes.Buffer
	for _, a := range authorities {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw}))
	}
	return b.Bytes()
}

// Write puts content into a file of a folder, by rename, and returns its path.
func Write(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Corp"}, CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
