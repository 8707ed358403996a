package keyd

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/certs/internal/wire"
)

const (
	// maxPending bounds the keys of a slot for which certificates are asked at a time.
	maxPending = 2
	// abandonedAfter is how long a key may wait for its certificate before another may take its place.
	abandonedAfter = 7 * 24 * time.Hour
	// maxCSRNames bounds the names of one certificate; authorities take about as many.
	maxCSRNames = 100
)

// makeCSR makes a key for the next certificate of a managed slot, and a request for it (PKCS #10) that the new key signs.
// The gateway chooses among the configured names and nothing else: keyd writes what is signed.
func (s *slots) makeCSR(r wire.CSRRequest) (*key, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.find(r.Slot)
	if sl == nil {
		return nil, nil, refusal("no key has this name")
	}
	if err := sl.mayRequest(r.Names); err != nil {
		return nil, nil, err
	}
	if err := s.makeRoom(sl); err != nil {
		return nil, nil, err
	}
	defer s.renewLocked()
	n, err := s.make(sl)
	if err != nil {
		return nil, nil, err
	}
	k := sl.live[n]
	// RFC 2986; the only extension is the list of names, RFC 5280 §4.2.1.6.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: r.Names}, k.private)
	if err == nil {
		err = s.save(sl, sl.state.to(n, pending, s.now()))
	}
	if err != nil {
		return nil, nil, errors.Join(err, s.save(sl, sl.state.to(n, destroying, s.now())))
	}
	s.log.Info("a certificate is asked for", "key", sl.Name, "generation", n, "id", k.id.String(), "names", strings.Join(r.Names, " "))
	return k.key, der, nil
}

// mayRequest tells whether a certificate of the slot may have these names.
func (sl *slot) mayRequest(names []string) error {
	if !sl.managesTLS() {
		return refusal("not a managed key of purpose tls-server")
	}
	if len(names) == 0 || len(names) > maxCSRNames {
		return refusal(fmt.Sprintf("a certificate has 1 to %d names", maxCSRNames))
	}
	for i, name := range names {
		if !sl.owns(name) {
			return refusal("a name that is not the key's")
		}
		if slices.Contains(names[:i], name) {
			return refusal("the same name twice")
		}
	}
	return nil
}

// owns tells whether a name, or a wildcard, is among the configured names or covered by a wildcard there.
func (sl *slot) owns(name string) bool {
	if slices.Contains(sl.Names, name) {
		return true
	}
	label, rest, ok := strings.Cut(name, ".")
	return ok && validLabel(label) && slices.Contains(sl.Names, "*."+rest)
}

// makeRoom gives up the oldest key that waits for a certificate, if there are too many and it waited long.
func (s *slots) makeRoom(sl *slot) error {
	if sl.state.count(pending) >= maxPending {
		oldest, _ := sl.state.find(pending)
		if oldest.elapsed(s.now()) < abandonedAfter {
			return refusal(fmt.Sprintf("%d keys of this name wait for their certificates", maxPending))
		}
		if err := s.save(sl, sl.state.to(oldest.Number, destroying, s.now())); err != nil {
			return err
		}
	}
	if err := s.destroy(sl); err != nil {
		return err
	}
	if n := len(sl.state.Generations); n >= maxLive {
		return refusal(fmt.Sprintf("%d keys of this name are not destroyed yet", n))
	}
	return nil
}

// adopt makes the key of a certificate that was issued the current one of its slot. Once it is, it may be adopted again.
func (s *slots) adopt(id wire.KeyID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.list {
		for _, g := range sl.state.Generations {
			if g.ID != id.String() || !sl.managesTLS() {
				continue
			}
			switch g.Stage {
			case current:
				return nil
			case pending:
				defer s.renewLocked()
				return s.switchTo(sl, g.Number)
			}
			return refusal("the key retires")
		}
	}
	return errNoKey
}

// errNoKey means that no key has the id of a request.
var errNoKey = errors.New("no key has this id")
