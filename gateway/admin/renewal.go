package admin

import (
	"context"
	"net/http"
	"time"
)

// Renewing keeps certificates that are obtained from an authority. All methods may run at once.
type Renewing interface {
	// Renewals describes each certificate, by host. It waits for nothing.
	Renewals() []Renewal
	// RenewCertificate replaces a certificate before it returns; a host that no certificate is kept for is ErrUnknown.
	RenewCertificate(ctx context.Context, what Renew) error
	// RevokeCertificate has the authority revoke a certificate before it returns, and another one is obtained after; a host that no
	// certificate is kept for, and a reason that there is not, are ErrUnknown.
	RevokeCertificate(ctx context.Context, what Revocation) error
}

// Renewal is a certificate that is obtained from an authority, and renewed.
type Renewal struct {
	Host     string    `json:"host"`
	Key      string    `json:"key"`                // its name in the key process
	NotAfter time.Time `json:"not_after,omitzero"` // absent while there is none
	RenewAt  time.Time `json:"renew_at,omitzero"`  // when it is to be replaced
	Advised  bool      `json:"advised,omitzero"`   // the authority advises on that
	NextAt   time.Time `json:"next_at,omitzero"`   // when the next attempt is made; absent: now
	Failures int       `json:"failures,omitzero"`  // in a row
	Failed   time.Time `json:"failed,omitzero"`    // when the last attempt was, if it failed
	Reason   string    `json:"reason,omitzero"`    // why it failed, in a word
	Error    string    `json:"error,omitzero"`     // and in more
	UnderWay bool      `json:"under_way,omitzero"` // an order is not finished
}

// Renew asks that a certificate be replaced now.
type Renew struct {
	Host string `json:"host"`
}

// Revocation asks that a certificate be revoked.
type Revocation struct {
	Host   string `json:"host"`
	Reason string `json:"reason"` // unspecified, key-compromise, superseded, affiliation-changed or cessation-of-operation
}

func (s *operatorServer) renewals(w http.ResponseWriter, _ *http.Request) {
	answer(w, append([]Renewal{}, s.Renewing.Renewals()...))
}

func (s *operatorServer) renew(w http.ResponseWriter, r *http.Request) {
	var what Renew
	if !read(w, r, &what) || !s.recorded(w, r, CodeRenew, what) {
		return
	}
	// An order is not given up when the caller goes away.
	if err := s.Renewing.RenewCertificate(context.WithoutCancel(r.Context()), what); err != nil {
		s.failed(w, r, CodeRenew, statusOf(err), err)
		return
	}
	s.renewals(w, r)
}

func (s *operatorServer) revokeCertificate(w http.ResponseWriter, r *http.Request) {
	var what Revocation
	if !read(w, r, &what) || !s.recorded(w, r, CodeRevokeCertificate, what) {
		return
	}
	if err := s.Renewing.RevokeCertificate(context.WithoutCancel(r.Context()), what); err != nil {
		s.failed(w, r, CodeRevokeCertificate, statusOf(err), err)
		return
	}
	s.renewals(w, r)
}

// Renewals lists the certificates that are obtained from an authority.
func (c *Client) Renewals(ctx context.Context) ([]Renewal, error) {
	var list []Renewal
	err := c.call(ctx, http.MethodGet, "/v1/certificates", nil, &list)
	return list, err
}

// Renew replaces a certificate now, and lists them as they are then.
func (c *Client) Renew(ctx context.Context, what Renew) ([]Renewal, error) {
	var list []Renewal
	err := c.call(ctx, http.MethodPost, "/v1/certificates/renew", what, &list)
	return list, err
}

// RevokeCertificate has a certificate revoked, and lists them as they are then.
func (c *Client) RevokeCertificate(ctx context.Context, what Revocation) ([]Renewal, error) {
	var list []Renewal
	err := c.call(ctx, http.MethodPost, "/v1/certificates/revoke", what, &list)
	return list, err
}
