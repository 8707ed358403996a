package admin

import (
	"context"
	"net/http"

	"sallyport/audit"
	"sallyport/gateway/shadow"
)

// ShadowStart asks that a candidate policy be tried on live traffic.
type ShadowStart struct {
	Name    string `json:"name,omitzero"` // what whoever asks calls it: a folder, a file, a revision
	Why     string `json:"why,omitzero"`
	Archive []byte `json:"archive"` // the effective policy, as policy.Bundle's Archive
}

// ShadowPromote asks for the candidate to come into force.
type ShadowPromote struct {
	Why   string `json:"why,omitzero"`
	Force bool   `json:"force,omitzero"` // whatever the comparison says
}

// ShadowStatus says which candidate is tried, and how far that is. Without one only Running is set.
type ShadowStatus struct {
	Running bool   `json:"running"`
	Name    string `json:"name,omitzero"`
	Why     string `json:"why,omitzero"`
	Who     string `json:"who,omitzero"`
	*shadow.Report
}

// Shadowing tries candidate policies. All methods may run at once. What changes something is on record, with the account
// that asked, before it takes effect; an error says why nothing was changed.
type Shadowing interface {
	// Shadow describes the candidate that is tried, if any.
	Shadow() ShadowStatus
	// StartShadow begins to compare a candidate with the policy in force; there is one at a time.
	StartShadow(ctx context.Context, by *audit.Actor, what ShadowStart) error
	// StopShadow ends the comparison and returns what it came to.
	StopShadow(ctx context.Context, by *audit.Actor) (ShadowStatus, error)
	// PromoteShadow puts the candidate in force, pinned as UsePolicy does, and ends the comparison. Unless forced it refuses
	// while nothing was compared, or somebody's access would differ.
	PromoteShadow(ctx context.Context, by *audit.Actor, what ShadowPromote) error
}

const (
	// maxArchive bounds the call that carries a policy archive: 64 MiB of it, in base64.
	maxArchive = 88 << 20
	// maxName bounds what a candidate is called.
	maxName = 1 << 10
)

func (s *operatorServer) shadow(w http.ResponseWriter, _ *http.Request) {
	answer(w, s.Shadowing.Shadow())
}

func (s *operatorServer) startShadow(w http.ResponseWriter, r *http.Request) {
	var what ShadowStart
	if !readUpTo(w, r, maxArchive, &what) || !sayable(w, what.Why) {
		return
	}
	if len(what.Name) > maxName {
		fail(w, http.StatusBadRequest, "the name is longer than 1 KiB")
		return
	}
	p, _ := peerFrom(r)
	if err := s.Shadowing.StartShadow(context.WithoutCancel(r.Context()), p.actor(), what); err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, s.Shadowing.Shadow())
}

func (s *operatorServer) stopShadow(w http.ResponseWriter, r *http.Request) {
	if !read(w, r, &struct{}{}) {
		return
	}
	p, _ := peerFrom(r)
	ended, err := s.Shadowing.StopShadow(context.WithoutCancel(r.Context()), p.actor())
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, ended)
}

func (s *operatorServer) promoteShadow(w http.ResponseWriter, r *http.Request) {
	var what ShadowPromote
	if !read(w, r, &what) || !sayable(w, what.Why) {
		return
	}
	p, _ := peerFrom(r)
	s.changed(w, s.Shadowing.PromoteShadow(context.WithoutCancel(r.Context()), p.actor(), what))
}

// Shadow asks which candidate policy is tried, and how far that is.
func (c *Client) Shadow(ctx context.Context) (ShadowStatus, error) {
	var status ShadowStatus
	err := c.call(ctx, http.MethodGet, "/v1/policy/shadow", nil, &status)
	return status, err
}

// StartShadow has the gateway try a candidate policy.
func (c *Client) StartShadow(ctx context.Context, what ShadowStart) (ShadowStatus, error) {
	var status ShadowStatus
	err := c.call(ctx, http.MethodPost, "/v1/policy/shadow/start", what, &status)
	return status, err
}

// StopShadow ends that, and tells what it came to.
func (c *Client) StopShadow(ctx context.Context) (ShadowStatus, error) {
	var status ShadowStatus
	err := c.call(ctx, http.MethodPost, "/v1/policy/shadow/stop", struct{}{}, &status)
	return status, err
}

// PromoteShadow puts the candidate in force.
func (c *Client) PromoteShadow(ctx context.Context, what ShadowPromote) error {
	return c.call(ctx, http.MethodPost, "/v1/policy/shadow/promote", what, &struct{}{})
}
