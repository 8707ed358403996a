package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	rfc8555 "github.com/mholt/acmez/v3/acme"

	"sallyport/certs/keyring"
)

const (
	// attemptTime is how long one attempt may take, from the key to the chain.
	attemptTime = 15 * time.Minute
	// pollEvery is how often the authority is asked whether it is done, if it does not say.
	pollEvery = time.Second
	// pollTime is how long.
	pollTime = 5 * time.Minute
)

// errChain is a chain that is not what was asked for.
var errChain = errors.New("the authority's chain cannot be used")

// obtain gets a chain for a host: it finishes the order that is under way, or makes a new one. What the order needs in
// order to be finished by another process is on disk before the authority hears of it: the key that it is for, and where
// it is. keyd holds the key from the start, and gives it up for nobody.
func (r *Renewer) obtain(ctx context.Context, h *host) (chain, error) {
	account, err := r.account(ctx)
	if err != nil {
		return nil, err
	}
	got, err := r.follow(ctx, h, account)
	r.forgetAccount(err)
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(h.memory.Order.CSR)
	if err != nil {
		return nil, err
	}
	if err := got.check(h.name, csr.PublicKey, r.now()); err != nil {
		h.memory.Order = nil // another download would bring the same
		return nil, fmt.Errorf("%w: %w", errChain, err)
	}
	// Adopted first: a chain must never be in the folder without a key that signs for it.
	key := keyring.Key{Name: r.cfg.Slot(h.name), Purpose: keyring.PurposeTLSServer, ID: h.memory.Order.Key, Public: csr.PublicKey}
	if err := r.patiently(ctx, func() error { return r.keys.Adopt(ctx, key) }); err != nil {
		if errors.Is(err, keyring.ErrRefused) {
			h.memory.Order = nil // keyd does not hold the key any more, or not for this host
		}
		return nil, fmt.Errorf("%w: adopting the key: %w", errKeys, err)
	}
	return got, r.folder.write(fileOf(h.name)+".pem", got.pem())
}

// follow takes the order under way, or a new one, to its chain.
func (r *Renewer) follow(ctx context.Context, h *host, account rfc8555.Account) (chain, error) {
	o, err := r.order(ctx, h, account)
	if err != nil {
		return nil, err
	}
	if o.Status == rfc8555.StatusPending {
		if err := r.authorize(ctx, h.name, account, o); err != nil {
			return nil, err
		}
		if o, err = r.settled(ctx, account, o, rfc8555.StatusPending); err != nil {
			return nil, err
		}
	}
	if o.Status == rfc8555.StatusReady {
		if o, err = r.client.FinalizeOrder(ctx, account, o, h.memory.Order.CSR); err != nil {
			if problem, ok := errors.AsType[rfc8555.Problem](err); ok && unfit(problem) {
				h.memory.Order = nil // the authority would say so of this key each time
			}
			return nil, fmt.Errorf("finalizing the order: %w", err)
		}
	}
	if o.Status == rfc8555.StatusProcessing { // by an attempt that was cut off
		if o, err = r.settled(ctx, account, o, rfc8555.StatusProcessing); err != nil {
			return nil, err
		}
	}
	if o.Status != rfc8555.StatusValid {
		return nil, fmt.Errorf("the order is %.20q: %w", o.Status, problemOf(o))
	}
	offered, err := r.client.GetCertificateChain(ctx, account, o.Certificate)
	if err != nil {
		return nil, fmt.Errorf("downloading the chain: %w", err)
	}
	got, err := pick(offered, r.cfg.PreferredChain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errChain, err)
	}
	return got, nil
}

func problemOf(o rfc8555.Order) error {
	if o.Error != nil {
		return *o.Error
	}
	return errors.New("the authority does not say why")
}

// order returns the order under way as the authority sees it now. One that is not there any more, or has failed, is made
// anew with the same key, which nobody has certified.
func (r *Renewer) order(ctx context.Context, h *host, account rfc8555.Account) (rfc8555.Order, error) {
	if err := r.prepare(ctx, h); err != nil {
		return rfc8555.Order{}, err
	}
	if under := h.memory.Order; under.URL != "" {
		o, err := r.client.GetOrder(ctx, account, rfc8555.Order{Location: under.URL})
		if err == nil && o.Status != rfc8555.StatusInvalid {
			r.log.Info("going on with an order", "host", h.name, "status", o.Status)
			return o, nil
		}
		if problem, ok := errors.AsType[rfc8555.Problem](err); err != nil && (!ok || !gone(problem)) {
			return o, fmt.Errorf("asking for the order: %w", err)
		}
	}
	o, err := r.newOrder(ctx, h, account)
	if err != nil {
		return o, fmt.Errorf("ordering: %w", err)
	}
	h.memory.Order.URL = o.Location
	return o, r.remember(h)
}

// gone reports whether the authority knows nothing of what was asked for.
func gone(p rfc8555.Problem) bool {
	return p.Status == http.StatusNotFound || p.Status == http.StatusForbidden || p.Status == http.StatusUnauthorized ||
		p.Type == rfc8555.ProblemTypeMalformed
}

// unfit reports whether the authority certifies the key, or the request for it, never.
func unfit(p rfc8555.Problem) bool {
	return p.Type == rfc8555.ProblemTypeBadCSR || p.Type == rfc8555.ProblemTypeBadPublicKey
}

// prepare sees to a key and its request, on disk.
func (r *Renewer) prepare(ctx context.Context, h *host) error {
	if o := h.memory.Order; o != nil && o.Directory == r.cfg.Directory {
		if _, err := x509.ParseCertificateRequest(o.CSR); err == nil {
			return nil
		}
		r.log.Error("the request for a certificate cannot be read: another one is made", "host", h.name)
	}
	var key keyring.Key
	var csr []byte
	err := r.patiently(ctx, func() (err error) {
		key, csr, err = r.keys.MakeCSR(ctx, r.cfg.Slot(h.name), []string{h.name})
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: making a key: %w", errKeys, err)
	}
	h.memory.Order = &order{Directory: r.cfg.Directory, Key: key.ID, CSR: csr, Made: r.now()}
	return r.remember(h)
}

// patiently tries again while keyd is away, for a while.
func (r *Renewer) patiently(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ask()
		if !errors.Is(err, keyring.ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(askKeysEvery):
		case <-ctx.Done():
			return err
		}
	}
}

// newOrder asks for one certificate. It says which one that replaces (RFC 9773 §5), unless the authority minds.
func (r *Renewer) newOrder(ctx context.Context, h *host, account rfc8555.Account) (rfc8555.Order, error) {
	ask := rfc8555.Order{Identifiers: []rfc8555.Identifier{{Type: "dns", Value: h.name}}, Replaces: r.replaced(ctx, h)}
	o, err := r.client.NewOrder(ctx, account, ask)
	problem, refused := errors.AsType[rfc8555.Problem](err)
	if refused && ask.Replaces != "" && problem.Type != rfc8555.ProblemTypeRateLimited && problem.Status < http.StatusInternalServerError {
		ask.Replaces = ""
		o, err = r.client.NewOrder(ctx, account, ask)
	}
	return o, err
}

// replaced names the chain that is served now to the authority that made it.
func (r *Renewer) replaced(ctx context.Context, h *host) string {
	directory, err := r.client.GetDirectory(ctx)
	if err != nil || directory.RenewalInfo == "" || h.chain == nil || h.memory.Directory != r.cfg.Directory {
		return ""
	}
	id, err := rfc8555.ARIUniqueIdentifier(h.chain.leaf())
	if err != nil {
		return ""
	}
	return id
}

// authorize shows the authority that the host is ours.
func (r *Renewer) authorize(ctx context.Context, name string, account rfc8555.Account, o rfc8555.Order) error {
	for _, at := range o.Authorizations {
		authz, err := r.client.GetAuthorization(ctx, account, at)
		if err != nil {
			return fmt.Errorf("asking for the authorization: %w", err)
		}
		if authz.Status == rfc8555.StatusValid {
			continue
		}
		if err := r.solve(ctx, name, account, authz); err != nil {
			return err
		}
	}
	return nil
}

func (r *Renewer) solve(ctx context.Context, name string, account rfc8555.Account, authz rfc8555.Authorization) (err error) {
	c, err := challengeOf(authz, name, r.cfg.Challenge)
	if err != nil {
		return err
	}
	cleanup, err := r.present(ctx, c)
	if err != nil {
		return err
	}
	defer func() {
		if err := cleanup(); err != nil {
			r.log.Warn("a challenge was not cleaned up", "host", name, "error", err)
		}
	}()
	if _, err := r.client.InitiateChallenge(ctx, account, c); err != nil {
		return fmt.Errorf("asking to be validated: %w", err)
	}
	if _, err := r.client.PollAuthorization(ctx, account, authz); err != nil {
		return fmt.Errorf("validation by %s: %w", c.Type, err)
	}
	return nil
}

// settled asks for the order until it has left a status.
func (r *Renewer) settled(ctx context.Context, account rfc8555.Account, o rfc8555.Order, status string) (rfc8555.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	for {
		next, err := r.client.GetOrder(ctx, account, o)
		if err != nil {
			return o, fmt.Errorf("asking for the order: %w", err)
		}
		if next.Status != status {
			return next, nil
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return o, fmt.Errorf("the order stays %s: %w", status, ctx.Err())
		}
	}
}
