package boot

import (
	"context"
	"crypto/tls"
	"slices"
	"time"

	"sallyport/certs"
	"sallyport/gateway/listen"
)

// keysWithin is how long a new connection waits for a key process that restarts. Its signature would wait longer; one that
// resumes a session, and needs none, may not outwait it.
const keysWithin = 3 * time.Second

// tlsConfig answers handshakes as the current configuration says. Whoever has begun one goes on with the configuration
// that it began with.
func (a *assembly) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // by crypto/tls itself: see certs.Tickets
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if err := a.awaitKeys(hello.Context()); err != nil {
				return nil, err
			}
			if err := hello.Conn.(*listen.Conn).AwaitTurn(); err != nil {
				return nil, err
			}
			if config, err := a.challenge(hello); config != nil || err != nil {
				return config, err
			}
			return a.current().handshakes.choose(hello), nil
		},
	}
}

// awaitKeys waits for the key process, for a moment. A resumed session needs no signature: without keyd there are no new
// connections all the same.
func (a *assembly) awaitKeys(ctx context.Context) error {
	if a.keys.Ready() == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, keysWithin)
	defer stop()
	return a.keys.AwaitReady(ctx)
}

// handshakes are the ways in which one configuration answers clients. They never change.
type handshakes struct {
	usual   *tls.Config
	asking  *tls.Config            // of hosts that ask for client certificates
	asks    func(host string) bool // which those are; nil: none
	tickets *certs.Tickets
	store   *certs.Store
}

// newHandshakes makes them from the certificates of a configuration.
func newHandshakes(store *certs.Store) *handshakes {
	h := &handshakes{store: store, tickets: certs.NewTickets(), usual: &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: store.GetCertificate,
		// CurvePreferences: none, which is X25519MLKEM768 before all others, and P-256 and X25519 for older clients.
	}}
	h.tickets.Seal(h.usual)
	return h
}

// choose is how a client is answered, by the name and the protocols that it asks for.
func (h *handshakes) choose(hello *tls.ClientHelloInfo) *tls.Config {
	config := h.usual
	if h.asks != nil && h.asks(hello.ServerName) {
		config = h.asking
	}
	if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		config = config.Clone() // a TLS 1.2 ticket's key would decrypt what was said
		config.SessionTicketsDisabled = true
		config.MinVersion, config.CipherSuites = h.store.MinVersion(hello), certs.CipherSuites12()
	}
	return config
}

// retire ends what clients could resume, once another configuration answers them.
func (h *handshakes) retire() { h.tickets.Retire() }

// rotateTickets gives the current tickets new keys in time, until ctx ends.
func (a *assembly) rotateTickets(ctx context.Context) error {
	turn := time.NewTicker(certs.TicketTurn)
	defer turn.Stop()
	for {
		select {
		case <-turn.C:
			a.current().handshakes.tickets.Rotate()
		case <-ctx.Done():
			return nil
		}
	}
}
