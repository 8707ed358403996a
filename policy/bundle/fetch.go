package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"
)

// ErrUnavailable says that the server of a bundle could not be asked, or had nothing to give: the bundle is what it was.
// A bundle that came, and not as it should, is another error.
var ErrUnavailable = errors.New("the bundle's server cannot be asked")

// Remote bundles take this long at most.
const fetchTime = time.Minute

// Fetched is a bundle as a server gave it.
type Fetched struct {
	Archive []byte
	ETag    string // of the answer; empty when it had none
}

// CheckAddress refuses an address from which nobody should take a policy: a plain one, unless signatures make up for it or
// it is this machine. Nothing makes up for a token that is sent to another machine in the clear.
func CheckAddress(address string, signed bool, token Secret) error {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.User != nil || parsed.Fragment != "" {
		return fmt.Errorf("%q is no address of a bundle, such as https://policies.corp.example/bundle.tar.gz", address)
	}
	host := parsed.Hostname()
	ip := net.ParseIP(host)
	switch {
	case parsed.Scheme == "https" || host == "localhost" || ip != nil && ip.IsLoopback():
		return nil
	case token != "":
		return errors.New("anybody on the way could read a token that is sent over http: use https")
	case signed:
		return nil
	}
	return errors.New("anybody on the way could change a policy that is fetched over http: use https, or require signatures")
}

// Fetch asks for a bundle (RFC 9110 §13.1.2: unless it is the one called etag, for which the answer is nil). A token, unless
// empty, is sent as the Bearer (RFC 6750). The whole archive is there, and no longer than its bounds, or it is an error.
func Fetch(ctx context.Context, address, token, etag string) (*Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/gzip, application/x-tar, application/octet-stream")
	request.Header.Set("Accept-Encoding", "identity") // it is packed already, and the digest is of what is sent
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := newFetcher().Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && etag != "":
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s answered %s", ErrUnavailable, address, response.Status)
	}
	return download(address, response)
}

func download(address string, response *http.Response) (*Fetched, error) {
	archive, err := readLimited(response.Body, maxBytes)
	if err == nil && response.ContentLength >= 0 && response.ContentLength != int64(len(archive)) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("fetching policy bundle %s: after %d bytes: %w", address, len(archive), err)
	}
	return &Fetched{Archive: archive, ETag: response.Header.Get("ETag")}, nil
}

// newFetcher keeps no connection: the next question is a minute away. It follows redirects, but never from https to http.
func newFetcher() *http.Client {
	return &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("more than 5 redirects")
			}
			if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("a redirect from https to http")
			}
			return nil
		},
	}
}

// LastGood is the last bundle of an address that came into force.
type LastGood struct {
	Address string    `json:"address"`
	ETag    string    `json:"etag,omitzero"`
	SHA256  string    `json:"sha256"`
	At      time.Time `json:"at"`

	Archive []byte `json:"-"`
}

const lastGoodFile = "last.json"

// archiveName is the file of a fetched bundle.
func (l *LastGood) archiveName() string { return "last-" + l.SHA256 + ".tar.gz" }

// LastGood is what was kept of an address; nil if that is nothing, or not whole.
func (s *Store) LastGood(address string) (*LastGood, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := new(LastGood)
	found, err := s.readLocked(lastGoodFile, last)
	if !found || err != nil || last.Address != address {
		return nil, err
	}
	if !filepath.IsLocal(last.archiveName()) {
		return nil, nil
	}
	archive, err := s.root.ReadFile(last.archiveName())
	if err != nil || digestOf(archive) != last.SHA256 {
		return nil, nil
	}
	last.Archive = archive
	return last, nil
}

// Keep keeps a bundle that came into force.
func (s *Store) Keep(address string, f *Fetched, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := new(LastGood)
	if _, err := s.readLocked(lastGoodFile, before); err != nil {
		return err
	}
	last := &LastGood{Address: address, ETag: f.ETag, SHA256: digestOf(f.Archive), At: now}
	if err := s.writeLocked(last.archiveName(), f.Archive); err != nil {
		return fmt.Errorf("writing policy store: %w", err)
	}
	if err := s.writeJSONLocked(lastGoodFile, last); err != nil {
		return err
	}
	if before.SHA256 != last.SHA256 && filepath.IsLocal(before.archiveName()) {
		s.root.Remove(before.archiveName()) // it is not asked for any more
	}
	return nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
