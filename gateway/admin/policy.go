package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sallyport/audit"
)

// PolicyUse asks for another policy, and for it to stay until it is let go.
type PolicyUse struct {
	// Digest is that of a policy which the gateway keeps; its first twelve digits will do. Empty: the one that was in
	// force before.
	Digest string `json:"digest,omitzero"`
	// Bundle is a bundle in the form of Open Policy Agent's, to stand in for the configured one; Name is what it is
	// called.
	Bundle []byte `json:"bundle,omitempty"`
	Name   string `json:"name,omitzero"`
	Why    string `json:"why,omitzero"`
}

// PolicyRelease asks for the configured policy again.
type PolicyRelease struct {
	Why string `json:"why,omitzero"`
}

// PolicyPin says who holds a policy in force whatever the configuration says.
type PolicyPin struct {
	Who   string    `json:"who"`
	Why   string    `json:"why,omitzero"`
	Since time.Time `json:"since"`
}

// KeptPolicy is a policy that the gateway keeps and could put in force.
type KeptPolicy struct {
	Digest   string    `json:"digest"`
	Revision string    `json:"revision,omitzero"` // the commit, where its bundle states one
	Review   string    `json:"review,omitzero"`   // digest of the review that its bundle names
	Kept     time.Time `json:"kept"`
	Active   bool      `json:"active"`
	// Used is when it last came into force, by whom and why; all empty for a policy that never did.
	Used   time.Time `json:"used,omitzero"`
	Who    string    `json:"who,omitzero"`
	Why    string    `json:"why,omitzero"`
	Pinned bool      `json:"pinned,omitzero"` // it came by a pin
}

// Policies is how the policy in force is changed beside the configuration. All methods may run at once. Each records what
// it does, with the account that asked, before it takes effect; the error says why nothing was changed.
type Policies interface {
	// Policies lists the policies that are kept, the last used first.
	Policies(ctx context.Context) ([]KeptPolicy, error)
	// UsePolicy puts a kept policy, or one that follows from a bundle, in force and pins it.
	UsePolicy(ctx context.Context, by *audit.Actor, what PolicyUse) error
	// ReleasePolicy ends the pin and puts the configured policy in force.
	ReleasePolicy(ctx context.Context, by *audit.Actor, what PolicyRelease) error
}

// maxWhy bounds a reason, so that it fits a record beside all else.
const maxWhy = 2 << 10

var errLongWhy = errors.New("the reason is longer than 2 KiB")

func (s *operatorServer) policies(w http.ResponseWriter, r *http.Request) {
	list, err := s.Policies.Policies(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, append([]KeptPolicy{}, list...))
}

func (s *operatorServer) usePolicy(w http.ResponseWriter, r *http.Request) {
	var what PolicyUse
	if !readUpTo(w, r, maxArchive, &what) || !sayable(w, what.Why) {
		return
	}
	if len(what.Bundle) > 0 && what.Digest != "" {
		fail(w, http.StatusBadRequest, "a policy is named by its digest or brought as a bundle, not both")
		return
	}
	p, _ := peerFrom(r)
	s.changed(w, s.Policies.UsePolicy(context.WithoutCancel(r.Context()), p.actor(), what))
}

func (s *operatorServer) releasePolicy(w http.ResponseWriter, r *http.Request) {
	var what PolicyRelease
	if !read(w, r, &what) || !sayable(w, what.Why) {
		return
	}
	p, _ := peerFrom(r)
	s.changed(w, s.Policies.ReleasePolicy(context.WithoutCancel(r.Context()), p.actor(), what))
}

func sayable(w http.ResponseWriter, why string) bool {
	if len(why) > maxWhy {
		fail(w, http.StatusBadRequest, errLongWhy.Error())
		return false
	}
	return true
}

func (s *operatorServer) changed(w http.ResponseWriter, err error) {
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, struct{}{})
}

// Policies lists the policies that the gateway keeps.
func (c *Client) Policies(ctx context.Context) ([]KeptPolicy, error) {
	var list []KeptPolicy
	err := c.call(ctx, http.MethodGet, "/v1/policies", nil, &list)
	return list, err
}

// UsePolicy puts a kept policy in force and pins it.
func (c *Client) UsePolicy(ctx context.Context, what PolicyUse) error {
	return c.call(ctx, http.MethodPost, "/v1/policies/use", what, &struct{}{})
}

// ReleasePolicy ends the pin and puts the configured policy in force.
func (c *Client) ReleasePolicy(ctx context.Context, what PolicyRelease) error {
	return c.call(ctx, http.MethodPost, "/v1/policies/release", what, &struct{}{})
}
