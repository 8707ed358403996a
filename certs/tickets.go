package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TicketTurn is how long one key seals tickets. It opens them for one turn more and is gone then, so that no key is older
// than a day. crypto/tls would keep its own for seven.
const TicketTurn = 8 * time.Hour

// Tickets seal the sessions that clients keep to resume them (RFC 8446 §4.6.1), under keys of their own that are random,
// are in this process's memory only and go with it. Who has such a key can resume a stranger's session, and no more: what
// was said in one is beyond them, because a new key exchange goes with each (psk_dhe_ke), and TLS 1.2, where that is not
// so, gets no tickets.
//
// They belong to one configuration: its successor retires them, so that no session outlives the certificates, or what was
// asked of clients, under which it was made. And each is of one host: what was asked of a client there says nothing about
// another host.
type Tickets struct {
	mu    sync.Mutex
	keys  [][32]byte                 // the newest first; two at most
	vault atomic.Pointer[tls.Config] // seals and opens; nil: retired. No connection keeps it, and so no key
}

// NewTickets returns tickets with their first key.
func NewTickets() *Tickets {
	t := &Tickets{}
	t.renewLocked() // nobody else has it yet
	return t
}

// Rotate makes a new key, which seals from now on; the one before it still opens, and any older one is forgotten. To be
// called each TicketTurn.
func (t *Tickets) Rotate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vault.Load() != nil {
		t.renewLocked()
	}
}

func (t *Tickets) renewLocked() {
	keys := make([][32]byte, 1, 2)
	rand.Read(keys[0][:]) // never fails
	if len(t.keys) > 0 {
		keys = append(keys, t.keys[0])
	}
	clear(t.keys)
	t.keys = keys
	vault := &tls.Config{}
	vault.SetSessionTicketKeys(keys)
	t.vault.Store(vault)
}

// Retire forgets all keys: nothing that was sealed is ever opened again.
func (t *Tickets) Retire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.keys)
	t.keys = nil
	t.vault.Store(nil)
}

// Seal makes config's servers give out these tickets and take them back. The configuration from whose GetConfigForClient
// config comes must have SessionTicketsDisabled, or crypto/tls makes, and keeps, keys that nobody needs.
func (t *Tickets) Seal(config *tls.Config) {
	config.WrapSession, config.UnwrapSession = t.wrap, t.unwrap
}

func (t *Tickets) wrap(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	vault := t.vault.Load()
	if vault == nil { // retired during this handshake, which is none the worse for a ticket that opens nothing
		return []byte(rand.Text()), nil
	}
	session.Extra = append(session.Extra, mark(state))
	return vault.EncryptTicket(state, session)
}

// unwrap returns nil for a ticket that does not count, which leads to a full handshake.
func (t *Tickets) unwrap(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
	vault := t.vault.Load()
	if vault == nil {
		return nil, nil
	}
	session, err := vault.DecryptTicket(ticket, state)
	if session == nil || err != nil {
		return nil, err
	}
	of := mark(state)
	if !slices.ContainsFunc(session.Extra, func(extra []byte) bool { return bytes.Equal(extra, of) }) {
		return nil, nil
	}
	return session, nil
}

// mark is what ties a ticket to the host for which it was made.
func mark(state tls.ConnectionState) []byte {
	return []byte("sallyport host\x00" + strings.ToLower(state.ServerName))
}
