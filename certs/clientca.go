package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// ClientCertificates is `tls.client_certificates`: whose client certificates count, for the apps that ask for one
// (client_certs). A certificate is a factor besides the sign-in, and never in its place.
type ClientCertificates struct {
	// Authorities are PEM files with the certificates of the authorities that issue to people and devices. One that another
	// one of them has issued only completes chains; the others are trusted. Clients are told their names. Each must
	// exist, be valid now and be able to sign certificates. Required where an app asks for certificates; default: none.
	Authorities []string `yaml:"authorities" config:"path,single"`
	// Revocation are files with certificate revocation lists (RFC 5280), DER or PEM, each signed by one of the authorities;
	// of several by one authority the newest counts. With any, nothing passes that no list in force speaks for: every
	// authority that has issued a part of a client's chain needs one, and once its list is past its next update its
	// certificates do not count until a new list is there. Default: none, and nothing is ever revoked.
	Revocation []string `yaml:"revocation" config:"path,single"`
	// DeviceFrom says where a certificate names a device, which policies then see as input.subject.device.id: "common_name",
	// or a prefix such as "urn:device:", of the one URI among the subject's alternative names that begins so; what comes
	// after it is the id. A certificate that names none, or several, is of no known device. Default: no device is named.
	DeviceFrom string `yaml:"device_from"`
	// SignIn demands a certificate of everybody who signs in or opens the list of apps, too. The public keys that apps and
	// identity providers fetch there stay open. Default false.
	SignIn bool `yaml:"sign_in"`
}

// deviceFromName is the DeviceFrom for the common name.
const deviceFromName = "common_name"

// Check tells whether the settings make sense.
func (c ClientCertificates) Check() error {
	if len(c.Authorities) == 0 && (len(c.Revocation) > 0 || c.DeviceFrom != "" || c.SignIn) {
		return errors.New("authorities is missing: nobody could issue a certificate that counts")
	}
	if c.DeviceFrom != "" && c.DeviceFrom != deviceFromName {
		// What certificates hold is compared as net/url writes it: another spelling would be the beginning of none.
		if u, err := url.Parse(c.DeviceFrom); err != nil || !u.IsAbs() || u.String() != c.DeviceFrom {
			return fmt.Errorf("device_from: %q is neither common_name nor, as in urn:device:, the beginning of a URI", c.DeviceFrom)
		}
	}
	return nil
}

// ClientAuthorities judges the certificates that clients show. It never changes: a reload loads new ones.
type ClientAuthorities struct {
	roots, between *x509.CertPool
	all            []*authority
	revocation     bool
	deviceFrom     string
}

// authority is one that may issue, with the list of what it took back; nil: there is none.
type authority struct {
	file        string
	certificate *x509.Certificate
	list        *revocationList
}

// LoadClientAuthorities reads the files that the settings name. It is all or nothing, and nil without authorities.
//
// previous are those in force, or nil. What is on file as it was then may have expired meanwhile: it counts for nothing any
// more, and must not keep an operator from changing something else. No list takes the place of a newer one.
func LoadClientAuthorities(cfg ClientCertificates, previous *ClientAuthorities, now time.Time) (*ClientAuthorities, error) {
	a, err := loadClientAuthorities(cfg, previous, now)
	if err != nil {
		return nil, fmt.Errorf("tls: client_certificates: %w", err)
	}
	return a, nil
}

func loadClientAuthorities(cfg ClientCertificates, previous *ClientAuthorities, now time.Time) (*ClientAuthorities, error) {
	if err := cfg.Check(); err != nil || len(cfg.Authorities) == 0 {
		return nil, err
	}
	a := &ClientAuthorities{roots: x509.NewCertPool(), between: x509.NewCertPool(), revocation: len(cfg.Revocation) > 0, deviceFrom: cfg.DeviceFrom}
	var errs []error
	for _, file := range cfg.Authorities {
		if err := a.addAuthorities(file, previous, now); err != nil {
			errs = append(errs, fmt.Errorf("authority %s: %w", file, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	a.sort()
	for _, file := range cfg.Revocation {
		if err := a.addLists(file, previous, now); err != nil {
			errs = append(errs, fmt.Errorf("revocation list %s: %w", file, err))
		}
	}
	return a, errors.Join(append(errs, a.checkLists(previous))...)
}

func (a *ClientAuthorities) addAuthorities(file string, previous *ClientAuthorities, now time.Time) error {
	list, err := readChain(file)
	if err != nil {
		return err
	}
	for _, c := range list {
		switch {
		case !c.BasicConstraintsValid || !c.IsCA:
			return fmt.Errorf("%q is no authority's certificate", title(c))
		case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
			return fmt.Errorf("the key of %q may sign no certificates (key usage)", title(c))
		}
		if err := checkChain([]*x509.Certificate{c}, now); err != nil && previous.authority(c) == nil {
			return err
		}
		if a.authority(c) == nil {
			a.all = append(a.all, &authority{file: file, certificate: c})
		}
	}
	return nil
}

// sort tells those who are trusted from those whom one of the others has issued.
func (a *ClientAuthorities) sort() {
	for _, one := range a.all {
		issued := slices.ContainsFunc(a.all, func(other *authority) bool {
			return other != one && !sameIssuer(one.certificate, other.certificate) && one.certificate.CheckSignatureFrom(other.certificate) == nil
		})
		if issued {
			a.between.AddCert(one.certificate)
		} else {
			a.roots.AddCert(one.certificate)
		}
	}
}

// sameIssuer reports whether two certificates are of one authority: it may have several of one name and key.
func sameIssuer(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// Names are the authorities' names, for clients to choose a certificate by (RFC 8446 §4.2.4).
func (a *ClientAuthorities) Names() *x509.CertPool {
	names := x509.NewCertPool()
	for _, one := range a.all {
		names.AddCert(one.certificate)
	}
	return names
}

// AuthorityInfo describes an authority and its revocation list.
type AuthorityInfo struct {
	File       string
	Subject    string // RFC 4514
	NotAfter   time.Time
	Revocation string    // file of the list; empty: there is none
	NextUpdate time.Time // of the list
	Revoked    int       // certificates on it
}

// Counts reports whether certificates of the authority count at a time.
func (i AuthorityInfo) Counts(now time.Time) bool {
	return !now.After(i.NotAfter) && (i.Revocation == "" || !now.After(i.NextUpdate))
}

// Infos describes the authorities in the order in which they were read; nil has none.
func (a *ClientAuthorities) Infos() []AuthorityInfo {
	if a == nil {
		return nil
	}
	list := make([]AuthorityInfo, len(a.all))
	for i, one := range a.all {
		list[i] = AuthorityInfo{File: one.file, Subject: nameOf(one.certificate.RawSubject), NotAfter: one.certificate.NotAfter}
		if l := one.list; l != nil {
			list[i].Revocation, list[i].NextUpdate, list[i].Revoked = l.file, l.until, len(l.revoked)
		}
	}
	return list
}

// nameOf is a distinguished name as text (RFC 4514), with every part of it in its order: pkix.Name keeps one common name
// of several.
func nameOf(raw []byte) string {
	sequence, err := parseName(raw)
	if err != nil {
		return "" // crypto/x509 has parsed it
	}
	return sequence.String()
}

const (
	maxRevocation = 16 << 20 // bytes of a file of lists
	pemList       = "X509 CRL"
)

// revocationList is what an authority took back.
type revocationList struct {
	file    string
	of      *x509.RevocationList
	until   time.Time
	revoked map[string]struct{} // serial numbers, as bytes
}

// addLists reads one file, of one list in DER or of any number in PEM.
func (a *ClientAuthorities) addLists(file string, previous *ClientAuthorities, now time.Time) error {
	data, err := readFile(file, maxRevocation)
	if err != nil {
		return err
	}
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		return a.addList(file, data, previous, now)
	}
	for n := 0; ; n++ {
		block, rest := pem.Decode(data)
		switch {
		case block == nil && len(bytes.TrimSpace(data)) > 0:
			return errors.New("ends in something that is not PEM")
		case block == nil && n == 0:
			return errors.New("holds no revocation list")
		case block == nil:
			return nil
		case block.Type != pemList:
			return fmt.Errorf("holds a PEM block %q, want only %q", block.Type, pemList)
		}
		if err := a.addList(file, block.Bytes, previous, now); err != nil {
			return err
		}
		data = rest
	}
}

func (a *ClientAuthorities) addList(file string, der []byte, previous *ClientAuthorities, now time.Time) error {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	if err := checkList(parsed, now); err != nil && !previous.has(parsed) {
		return err
	}
	list := &revocationList{file: file, of: parsed, until: parsed.NextUpdate, revoked: make(map[string]struct{}, len(parsed.RevokedCertificateEntries))}
	for _, entry := range parsed.RevokedCertificateEntries {
		list.revoked[string(entry.SerialNumber.Bytes())] = struct{}{}
	}
	signed := false
	for _, one := range a.all {
		if bytes.Equal(parsed.RawIssuer, one.certificate.RawSubject) && parsed.CheckSignatureFrom(one.certificate) == nil {
			signed = true
			if one.list == nil || list.newer(one.list) {
				one.list = list
			}
		}
	}
	if !signed {
		return fmt.Errorf("is signed by none of the authorities (its issuer: %s)", nameOf(parsed.RawIssuer))
	}
	return nil
}

// newer reports whether l has come out after other (RFC 5280 §5.2.3).
func (l *revocationList) newer(other *revocationList) bool {
	if l.of.Number != nil && other.of.Number != nil {
		return l.of.Number.Cmp(other.of.Number) > 0
	}
	return l.of.ThisUpdate.After(other.of.ThisUpdate)
}

// checkList refuses a list that is not in force, or that speaks for less than it seems: one that holds a critical
// extension, such as a difference to another list or a part of one, says other things than its entries alone (RFC 5280
// §5.2).
func checkList(list *x509.RevocationList, now time.Time) error {
	switch {
	case list.NextUpdate.IsZero():
		return errors.New("does not say when the next one comes")
	case now.After(list.NextUpdate):
		return fmt.Errorf("expired: the next one was to come by %s", list.NextUpdate.UTC().Format(time.RFC3339))
	case now.Before(list.ThisUpdate):
		return fmt.Errorf("not yet in force: it is from %s", list.ThisUpdate.UTC().Format(time.RFC3339))
	}
	for _, extension := range list.Extensions {
		if extension.Critical {
			return fmt.Errorf("has a critical extension (%s), such as those of partial lists: only whole lists are read", extension.Id)
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical {
				return fmt.Errorf("has an entry with a critical extension (%s), which is not read", extension.Id)
			}
		}
	}
	return nil
}

// checkLists wants a list of every authority if there is any list at all: one that was forgotten would look like one on
// which nothing is.
func (a *ClientAuthorities) checkLists(previous *ClientAuthorities) error {
	if !a.revocation {
		return nil
	}
	var errs []error
	for _, one := range a.all {
		before := previous.authority(one.certificate)
		switch {
		case one.list == nil:
			errs = append(errs, fmt.Errorf("authority %s: there is no revocation list of %s", one.file, nameOf(one.certificate.RawSubject)))
		case before != nil && before.list != nil && before.list.newer(one.list):
			errs = append(errs, fmt.Errorf("revocation list %s: is older than the one in force", one.list.file))
		}
	}
	return errors.Join(errs...)
}

// authority is the one with this certificate, or nil.
func (a *ClientAuthorities) authority(c *x509.Certificate) *authority {
	if a == nil {
		return nil
	}
	i := slices.IndexFunc(a.all, func(known *authority) bool { return known.certificate.Equal(c) })
	if i < 0 {
		return nil
	}
	return a.all[i]
}

// has reports whether a list is one of those in force.
func (a *ClientAuthorities) has(list *x509.RevocationList) bool {
	return a != nil && slices.ContainsFunc(a.all, func(one *authority) bool { return one.list != nil && bytes.Equal(one.list.of.Raw, list.Raw) })
}

// readFile reads a regular file that is no larger than limit and not empty.
func readFile(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("larger than %d bytes", limit)
	case len(data) == 0:
		return nil, errors.New("is empty")
	}
	return data, nil
}

// device is what a certificate names as its device, or empty.
func (a *ClientAuthorities) device(c *x509.Certificate) string {
	var names []string
	switch a.deviceFrom {
	case "":
	case deviceFromName:
		names = commonNames(c)
	default:
		for _, u := range c.URIs {
			if id, is := strings.CutPrefix(u.String(), a.deviceFrom); is {
				names = append(names, id)
			}
		}
	}
	if len(names) != 1 || len(names[0]) > maxDevice {
		return ""
	}
	return names[0]
}

// maxDevice is the length of the longest id of a device, in bytes.
const maxDevice = 256

// commonNames are all of a subject's, of which pkix.Name would show the last.
func commonNames(c *x509.Certificate) (names []string) {
	sequence, err := parseName(c.RawSubject)
	if err != nil {
		return nil
	}
	for _, set := range sequence {
		for _, part := range set {
			if name, is := part.Value.(string); is && part.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) {
				names = append(names, name)
			}
		}
	}
	return names
}
