// Package acme gets certificates from an authority that speaks ACME (RFC 8555) and replaces them in time. A Renewer keeps
// one certificate for each host that it is told of, by Config or by the gateway, and for no other name: what clients ask
// for never leads to an order.
//
// Private keys are keyd's. It makes the key of a certificate and the request for it, and signs what is said in the
// account's name; the package sees public keys and signatures. Chains are files, which package certs loads like all
// others. A failure leaves the old chain in place, is told at once, and again with each further attempt.
//
// The steps of an order are acmez's, one by one, and not its ready-made sequence, because an order must outlive the
// process that made it.
package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rfc8555 "github.com/mholt/acmez/v3/acme"
	"golang.org/x/sync/errgroup"

	"sallyport/certs/keyring"
)

// atOnce is how many hosts are worked on at a time.
const atOnce = 4

// Keys are the key process's keys. *keyring.Client implements it. An error that is keyring.ErrUnavailable is worth
// another attempt, one that is keyring.ErrRefused is not.
type Keys interface {
	// List returns the public side of every key.
	List(ctx context.Context) ([]keyring.Key, error)
	// ACMEAccount returns the signer of a key of purpose acme-account, on P-256. It takes digests of SHA-256
	// and answers r ‖ s (RFC 7518 §3.4), which acmez puts into a JWS as it is.
	ACMEAccount(k keyring.Key) crypto.Signer
	// MakeCSR makes a new key in a slot and returns a certification request for it in DER. The key signs nothing else
	// before it is adopted.
	MakeCSR(ctx context.Context, slot string, names []string) (keyring.Key, []byte, error)
	// Adopt makes a slot's new key the one that is used. A key that is adopted already is no error.
	Adopt(ctx context.Context, k keyring.Key) error
}

// Outcome is what came of an attempt.
type Outcome int

// The outcomes.
const (
	Failed  Outcome = iota
	Issued          // a host's first certificate
	Renewed         // a further one
)

// Event is an attempt that is over, as the detail of a record.
type Event struct {
	Outcome  Outcome   `json:"-"`
	Host     string    `json:"host"`
	Serial   string    `json:"serial,omitzero"`
	NotAfter time.Time `json:"not_after,omitzero"` // of the certificate that is served now
	Reason   string    `json:"reason,omitzero"`    // of a failure: one word
	Error    string    `json:"error,omitzero"`     // and some more
}

// Options are what a Renewer needs.
type Options struct {
	Keys Keys
	// Install puts the chains in the folder into effect.
	Install func(ctx context.Context) error
	// Record writes down what happened.
	Record func(ctx context.Context, e Event)
	// Agent is told to the authority as part of the User-Agent.
	Agent string
	Now   func() time.Time
	Log   *slog.Logger
}

// Renewer keeps certificates. Its methods may run at once.
type Renewer struct {
	cfg    *Config
	opts   Options
	keys   Keys
	log    *slog.Logger
	now    func() time.Time
	client *rfc8555.Client
	folder *folder
	wake   chan struct{}

	underWay underWay

	accounting sync.Mutex // one account is made

	mu    sync.Mutex
	hosts map[string]*host
}

// host is one certificate that is kept.
type host struct {
	name string

	busy    atomic.Bool // Run has begun something
	working sync.Mutex  // one attempt at a time

	// guarded by working; a copy for status is in shown
	chain  chain // nil: there is none that can be served
	memory memory

	mu    sync.Mutex
	shown Status
}

// waits reports whether the chain in the folder is not in effect yet.
func (h *host) waits() bool { return h.chain != nil && h.memory.Waiting != Failed }

// New returns a Renewer for the hosts, with what its folder knows of them. Nothing is asked for before Run.
func New(cfg *Config, hosts []string, opts Options) (*Renewer, error) {
	web, err := newHTTP(cfg)
	if err != nil {
		return nil, fmt.Errorf("tls.acme: %w", err)
	}
	folder, err := openFolder(cfg.Dir)
	if err != nil {
		return nil, err
	}
	r := &Renewer{cfg: cfg, opts: opts, keys: opts.Keys, log: opts.Log, now: opts.Now, folder: folder, wake: make(chan struct{}, 1),
		// acmez gets no logger: it would log what strangers say, and every header.
		client:   &rfc8555.Client{Directory: cfg.Directory, HTTPClient: web, UserAgent: opts.Agent, PollInterval: pollEvery, PollTimeout: pollTime},
		underWay: underWay{pages: map[string]page{}, handshakes: map[string]*tls.Certificate{}}, hosts: map[string]*host{}}
	return r, r.SetHosts(hosts)
}

// SetHosts changes which hosts there are, unless the configuration lists them. Chains of hosts that are gone stay.
func (r *Renewer) SetHosts(hosts []string) error {
	if err := r.cfg.checkHosts(hosts); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[string]*host{}
	for _, name := range hosts {
		next[name] = r.hosts[name]
		if next[name] == nil {
			next[name] = r.open(name)
		}
	}
	r.hosts = next
	r.nudge()
	return nil
}

// open reads what there is of a host.
func (r *Renewer) open(name string) *host {
	h := &host{name: name}
	if err := r.folder.load(fileOf(name)+".json", &h.memory); err != nil {
		// Without memory it is not known how often the authority has been asked: begin slowly.
		r.log.Error("what was known of a certificate cannot be read", "host", name, "error", err)
		h.memory = memory{Failures: 1, RetryAt: r.now().Add(r.cfg.Retry)}
	}
	if text, err := r.folder.read(fileOf(name) + ".pem"); err == nil {
		if h.chain, err = parseChain(text); err != nil {
			r.log.Error("a chain cannot be read", "host", name, "error", err)
		}
	}
	r.show(h)
	return h
}

func (r *Renewer) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run keeps the certificates until ctx ends.
func (r *Renewer) Run(ctx context.Context) error {
	r.dropUnusable(ctx)
	var group errgroup.Group
	group.SetLimit(atOnce)
	for {
		due, next := r.due()
		for _, h := range due {
			if h.busy.CompareAndSwap(false, true) {
				group.Go(func() error { r.tend(ctx, h); return nil })
			}
		}
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-r.wake:
		case <-time.After(next):
		}
	}
}

// Close releases the folder, after Run.
func (r *Renewer) Close() error {
	r.client.HTTPClient.CloseIdleConnections()
	return r.folder.close()
}

// dropUnusable forgets chains whose key keyd does not hold, so that others are asked for. Without keyd nothing is known,
// and nothing is done.
func (r *Renewer) dropUnusable(ctx context.Context) {
	list, err := r.keys.List(ctx)
	if err != nil {
		return
	}
	for _, h := range r.all() {
		h.working.Lock()
		if h.chain != nil && !slices.ContainsFunc(list, func(k keyring.Key) bool { return h.chain.check(h.name, k.Public, time.Time{}) == nil }) {
			r.log.Warn("keyd holds no key for a chain: another one is asked for", "host", h.name)
			h.chain = nil
		}
		r.show(h)
		h.working.Unlock()
	}
}

func (r *Renewer) all() []*host {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*host, 0, len(r.hosts))
	for _, h := range r.hosts {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *host) int { return strings.Compare(a.name, b.name) })
	return list
}

// ErrUnknown is a host that no certificate is kept for.
var ErrUnknown = errors.New("no certificate is kept for")

func (r *Renewer) host(name string) (*host, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.hosts[strings.ToLower(name)]; h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("%w %q", ErrUnknown, name)
}

// ServeHTTP answers a request for a challenge that is under way, and reports whether it was one. What is not is left
// alone.
func (r *Renewer) ServeHTTP(w http.ResponseWriter, req *http.Request) bool {
	return r.underWay.serveHTTP(w, req)
}

// Handshake answers the handshake of a challenge that is under way; nil stands for an ordinary handshake. A client that
// wants to speak acme-tls/1 and has no business is refused.
func (r *Renewer) Handshake(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return r.underWay.handshake(hello)
}

// Renew replaces a host's certificate now, however old it is and however often it failed.
func (r *Renewer) Renew(ctx context.Context, name string) error {
	h, err := r.host(name)
	if err != nil {
		return err
	}
	defer r.nudge()
	h.working.Lock()
	defer h.working.Unlock()
	return r.attempt(ctx, h)
}

// The reasons for a revocation (RFC 5280 §5.3.1) that make sense to an authority.
var reasons = map[string]int{
	"unspecified": rfc8555.ReasonUnspecified, "key-compromise": rfc8555.ReasonKeyCompromise, "superseded": rfc8555.ReasonSuperseded,
	"affiliation-changed": rfc8555.ReasonAffiliationChanged, "cessation-of-operation": rfc8555.ReasonCessationOfOperation,
}

// ErrReason is a reason that no certificate is revoked for.
var ErrReason = errors.New("the reason must be unspecified, key-compromise, superseded, affiliation-changed or cessation-of-operation")

// Revoke has the authority revoke a host's certificate, and gets another one with another key.
func (r *Renewer) Revoke(ctx context.Context, name, reason string) error {
	code, ok := reasons[reason]
	if !ok {
		return ErrReason
	}
	h, err := r.host(name)
	if err != nil {
		return err
	}
	defer r.nudge() // once the host is free: Run passes by those that are worked on
	h.working.Lock()
	defer h.working.Unlock()
	if h.chain == nil {
		return fmt.Errorf("%w %q: there is none yet", ErrUnknown, name)
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	account, err := r.account(ctx)
	if err != nil {
		return err
	}
	err = r.client.RevokeCertificate(ctx, account, h.chain.leaf(), nil, code)
	if problem, ok := errors.AsType[rfc8555.Problem](err); err != nil && (!ok || problem.Type != rfc8555.ProblemTypeAlreadyRevoked) {
		return fmt.Errorf("revoking: %w", err)
	}
	// An order under way is for another key than the one that is revoked: it may be finished.
	h.memory.Revoked, h.memory.RetryAt = true, time.Time{}
	if err := r.remember(h); err != nil {
		return err
	}
	r.show(h)
	return nil
}
