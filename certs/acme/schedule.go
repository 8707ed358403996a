package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	rfc8555 "github.com/mholt/acmez/v3/acme"

	"sallyport/certs/keyring"
)

const (
	// day is the window in which attempts are counted.
	day = 24 * time.Hour
	// maxBackoff is the longest wait after a failure, unless the authority asks for more.
	maxBackoff = 24 * time.Hour
	// adviceEvery is how often the authority is asked for advice if it does not say, and minAdvice and maxAdvice are the
	// bounds of what it may say.
	adviceEvery = 6 * time.Hour
	minAdvice   = time.Minute
	maxAdvice   = day
	// idle is how long to sleep at most; a wall clock may be set meanwhile.
	idle = time.Hour
	// maxWhy bounds what is kept of an error, in bytes: some of it are strangers' words.
	maxWhy = 1 << 10
)

// due returns the hosts that something is to be done for now, or how long nothing is.
func (r *Renewer) due() (list []*host, next time.Duration) {
	now := r.now()
	next = idle
	for _, h := range r.all() {
		if !h.working.TryLock() {
			continue // whoever works on it wakes us
		}
		at := r.nextFor(h)
		h.working.Unlock()
		if wait := at.Sub(now); wait <= 0 {
			list = append(list, h)
		} else {
			next = min(next, wait)
		}
	}
	return list, next
}

// nextFor is when something is to be done for a host.
func (r *Renewer) nextFor(h *host) time.Time {
	at := r.attemptAt(h)
	if h.chain != nil && r.askAdviceAt(h).Before(at) {
		return r.askAdviceAt(h)
	}
	return at
}

// attemptAt is when the next attempt is to be made: to put the chain that there is into effect, or to get one.
func (r *Renewer) attemptAt(h *host) time.Time {
	if h.waits() {
		return h.memory.RetryAt
	}
	at := later(r.renewAt(h), h.memory.RetryAt)
	if recent := h.memory.Attempts; len(recent) >= r.cfg.Attempts {
		at = later(at, recent[len(recent)-r.cfg.Attempts].Add(day))
	}
	return at
}

// renewAt is when a host's chain is to be replaced, were nothing in the way: what the authority advises, but in time,
// or else when two thirds of its life are over. The zero time is now.
func (r *Renewer) renewAt(h *host) time.Time {
	if h.chain == nil || h.memory.Revoked || h.memory.Directory != r.cfg.Directory || h.memory.RenewAt.IsZero() {
		return time.Time{}
	}
	at, a := h.memory.RenewAt, h.memory.Advice
	if a.Serial != serialOf(h.chain.leaf()) || a.Selected.IsZero() {
		return at
	}
	leaf := h.chain.leaf()
	last := leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 10)
	if a.Selected.Before(at) {
		// One early renewal is good advice. An authority that says so of each new certificate is not followed at once.
		return later(a.Selected, h.memory.Obtained.Add(r.doubled(h.memory.Early)))
	}
	return earlier(a.Selected, last)
}

// fallback is when a certificate is renewed without advice: when a third of its life is left, and some time before, by
// chance, so that hosts do not all come at once.
func fallback(leaf *x509.Certificate) time.Time {
	third := leaf.NotAfter.Sub(leaf.NotBefore) / 3
	return leaf.NotAfter.Add(-third - rand.N(third/10+1))
}

// doubled is how long to wait the n-th time in a row.
func (r *Renewer) doubled(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	wait := r.cfg.Retry
	for range min(n-1, 20) {
		wait = min(2*wait, maxBackoff)
	}
	return wait
}

// backoff is how long to wait after so many failures. Some of it is chance.
func (r *Renewer) backoff(failures int) time.Duration {
	wait := r.doubled(failures)
	return wait - rand.N(wait/4+1)
}

func (r *Renewer) askAdviceAt(h *host) time.Time {
	if h.memory.Advice.Serial != serialOf(h.chain.leaf()) {
		return time.Time{}
	}
	return h.memory.Advice.AskAgainAt
}

func serialOf(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// tend does what is due for a host.
func (r *Renewer) tend(ctx context.Context, h *host) {
	defer r.nudge()
	defer h.busy.Store(false)
	h.working.Lock()
	defer h.working.Unlock()
	if h.chain != nil && !r.askAdviceAt(h).After(r.now()) {
		r.askAdvice(ctx, h)
	}
	switch {
	case r.attemptAt(h).After(r.now()) || ctx.Err() != nil:
	case h.waits(): // failures, here and below, are on record, in status and in the log
		r.install(ctx, h)
	default:
		r.attempt(ctx, h)
	}
}

// askAdvice asks the authority when the chain should be replaced (RFC 9773). Without an answer the chain's own age
// decides.
func (r *Renewer) askAdvice(ctx context.Context, h *host) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	leaf, now := h.chain.leaf(), r.now()
	info, err := r.client.GetRenewalInfo(ctx, leaf)
	if ctx.Err() == context.Canceled {
		return
	}
	next := advice{Serial: serialOf(leaf), AskAgainAt: now.Add(adviceEvery)}
	if old := h.memory.Advice; err != nil && old.Serial == next.Serial {
		next.Start, next.End, next.Selected, next.URL = old.Start, old.End, old.Selected, old.URL
	} else if err == nil {
		next.take(info, h.memory.Advice, now)
	}
	if err != nil && !errors.Is(err, rfc8555.ErrUnsupported) {
		r.log.Debug("no advice on renewal", "host", h.name, "error", clip(err.Error()))
	}
	h.memory.Advice = next
	if err := r.remember(h); err != nil {
		r.log.Error("advice on renewal was not kept", "host", h.name, "error", err)
	}
	r.show(h)
}

// take adopts what the authority said. RFC 9773 §4.2: a time within the window is chosen once, and again when the window
// changes.
func (a *advice) take(info rfc8555.RenewalInfo, old advice, now time.Time) {
	a.Start, a.End, a.Selected, a.URL = info.SuggestedWindow.Start, info.SuggestedWindow.End, info.SelectedTime, clip(info.ExplanationURL)
	if old.Serial == a.Serial && old.Start.Equal(a.Start) && old.End.Equal(a.End) {
		a.Selected = old.Selected
	}
	if info.RetryAfter != nil {
		a.AskAgainAt = now.Add(min(max(info.RetryAfter.Sub(now), minAdvice), maxAdvice))
	}
}

// attempt makes one attempt. It is counted, on disk, before it begins: a gateway that dies of it does not try for ever.
func (r *Renewer) attempt(ctx context.Context, h *host) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	now := r.now()
	for len(h.memory.Attempts) > 0 && !h.memory.Attempts[0].After(now.Add(-day)) {
		h.memory.Attempts = h.memory.Attempts[1:]
	}
	h.memory.Attempts = append(h.memory.Attempts, now)
	if len(h.memory.Attempts) > 200 { // an operator may ask for any number
		h.memory.Attempts = h.memory.Attempts[100:]
	}
	if err := r.remember(h); err != nil {
		return r.failed(ctx, h, 0, fmt.Errorf("nothing is asked for that cannot be remembered: %w", err))
	}
	r.show(h)
	ctx, hints := withHints(ctx)
	old := h.chain
	early := old != nil && h.memory.RenewAt.After(now)
	got, err := r.obtain(ctx, h)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return err // the gateway stops; the next one goes on
		}
		return r.failed(ctx, h, hints.retryAfter(), err)
	}
	outcome := Issued
	if old != nil {
		outcome = Renewed
	}
	r.succeeded(h, got, early, outcome)
	return r.install(ctx, h)
}

// succeeded takes a new chain into account.
func (r *Renewer) succeeded(h *host, got chain, early bool, outcome Outcome) {
	h.chain = got
	m := &h.memory
	m.Directory, m.RenewAt, m.Advice, m.Order, m.Obtained = r.cfg.Directory, fallback(got.leaf()), advice{}, nil, r.now()
	m.forgive()
	m.Revoked, m.Waiting = false, outcome
	if m.Early++; !early {
		m.Early = 0
	}
	if err := r.remember(h); err != nil {
		r.log.Error("a certificate was not remembered", "host", h.name, "error", err)
	}
	r.show(h)
}

// install puts the chain into effect and tells. What keeps it from that, a key process that is away, say, is no reason to
// ask for another one: it is tried again, also by the next gateway.
func (r *Renewer) install(ctx context.Context, h *host) error {
	leaf := h.chain.leaf()
	if err := r.opts.Install(ctx); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		return r.failed(ctx, h, 0, fmt.Errorf("putting the certificate into effect: %w", err))
	}
	event := Event{Outcome: h.memory.Waiting, Host: h.name, Serial: serialOf(leaf), NotAfter: leaf.NotAfter}
	h.memory.forgive()
	h.memory.Waiting = Failed
	if err := r.remember(h); err != nil {
		r.log.Error("a certificate was not remembered", "host", h.name, "error", err)
	}
	r.show(h)
	r.log.Info("certificate obtained", "host", h.name, "not_after", leaf.NotAfter, "serial", serialOf(leaf), "renews", h.memory.RenewAt)
	r.opts.Record(ctx, event)
	return nil
}

// failed takes a failure into account, and tells.
func (r *Renewer) failed(ctx context.Context, h *host, wait time.Duration, err error) error {
	m := &h.memory
	m.Failures++
	m.FailedAt, m.Reason, m.Why = r.now(), reasonOf(err), clip(err.Error())
	m.RetryAt = m.FailedAt.Add(max(r.backoff(m.Failures), wait))
	if err := r.remember(h); err != nil {
		r.log.Error("a failure was not remembered", "host", h.name, "error", err)
	}
	r.show(h)
	event := Event{Host: h.name, Reason: m.Reason, Error: m.Why}
	tell := r.log.Warn
	if h.chain != nil {
		event.NotAfter = h.chain.leaf().NotAfter
		if life := h.chain.leaf().NotAfter.Sub(h.chain.leaf().NotBefore); event.NotAfter.Sub(r.now()) < life/6 {
			tell = r.log.Error // it must have failed for a while
		}
	}
	tell("no certificate was obtained; the old one stays", "host", h.name, "reason", m.Reason, "error", m.Why, "not_after", event.NotAfter, "next_attempt", r.attemptAt(h))
	r.opts.Record(context.WithoutCancel(ctx), event)
	return err
}

// reasonOf says in a word why an attempt failed: for metrics, so there is a bounded number of them.
func reasonOf(err error) string {
	problem, said := errors.AsType[rfc8555.Problem](err)
	word, known := strings.CutPrefix(problem.Type, rfc8555.ProblemTypeNamespace)
	switch {
	case errors.Is(err, keyring.ErrRefused):
		return "key_refused"
	case errors.Is(err, errKeys):
		return "keys"
	case errors.Is(err, errHook):
		return "dns_program"
	case errors.Is(err, errChain):
		return "chain"
	case said && known && problemWords[word]:
		return word
	case said:
		return "refused"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "other"
}

// problemWords are the errors of RFC 8555 §6.7 and RFC 9773 §7.4.
var problemWords = map[string]bool{"accountDoesNotExist": true, "alreadyReplaced": true, "badCSR": true, "badNonce": true, "badPublicKey": true,
	"badSignatureAlgorithm": true, "caa": true, "compound": true, "connection": true, "dns": true, "externalAccountRequired": true,
	"incorrectResponse": true, "invalidContact": true, "malformed": true, "orderNotReady": true, "rateLimited": true, "rejectedIdentifier": true,
	"serverInternal": true, "tls": true, "unauthorized": true, "unsupportedContact": true, "unsupportedIdentifier": true, "userActionRequired": true}

// clip bounds text that strangers had a part in.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxWhy)], "�")
}

// remember keeps what is known of a host.
func (r *Renewer) remember(h *host) error { return r.folder.store(fileOf(h.name)+".json", h.memory) }

// Status tells how a host's certificate is doing.
type Status struct {
	Host     string
	Slot     string    // the key's name in keyd.yaml
	NotAfter time.Time // zero: there is no certificate
	RenewAt  time.Time // when it is to be replaced
	Advised  bool      // by the authority's advice
	FailedAt time.Time // of the last attempt, if it failed
	Reason   string    // in a word
	Why      string    // in more words
	Failures int       // since the last success
	NextAt   time.Time // when the next attempt is made
	UnderWay bool      // an order has been made and is not finished
}

// show updates what Status tells.
func (r *Renewer) show(h *host) {
	m := h.memory
	s := Status{Host: h.name, Slot: r.cfg.Slot(h.name), RenewAt: r.renewAt(h), FailedAt: m.FailedAt, Reason: m.Reason, Why: m.Why, Failures: m.Failures,
		NextAt: r.attemptAt(h), UnderWay: m.Order != nil}
	if h.chain != nil {
		s.NotAfter, s.Advised = h.chain.leaf().NotAfter, m.Advice.Serial == serialOf(h.chain.leaf()) && !m.Advice.Selected.IsZero()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = s
}

// Status tells how every certificate is doing, by host. It waits for nothing.
func (r *Renewer) Status() []Status {
	var list []Status
	for _, h := range r.all() {
		h.mu.Lock()
		list = append(list, h.shown)
		h.mu.Unlock()
	}
	return list
}
