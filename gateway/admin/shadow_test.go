package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/gateway/shadow"
)

func (h *house) Shadow() ShadowStatus {
	return ShadowStatus{Running: true, Name: "next", Report: &shadow.Report{Candidate: "sha256:bb", Compared: 7}}
}

func (h *house) StartShadow(_ context.Context, by *audit.Actor, what ShadowStart) error {
	h.did(fmt.Sprintf("try %d bytes for %s by %s", len(what.Archive), what.Why, by.Kind))
	return h.reloadErr
}

func (h *house) StopShadow(_ context.Context, by *audit.Actor) (ShadowStatus, error) {
	h.did("stop trying by " + by.Kind)
	return ShadowStatus{Report: &shadow.Report{Compared: 8}}, h.reloadErr
}

func (h *house) PromoteShadow(_ context.Context, by *audit.Actor, what ShadowPromote) error {
	h.did(fmt.Sprintf("promote for %s by %s, force %t", what.Why, by.Kind, what.Force))
	return h.reloadErr
}

// A candidate is larger than other calls may be.
func TestCandidatesAreTriedByWhoAsks(t *testing.T) {
	h := &house{}
	c := client(t, start(t, h, Config{}))
	archive := bytes.Repeat([]byte("x"), 3*maxBody)
	if s, err := c.StartShadow(t.Context(), ShadowStart{Name: "next", Why: "more", Archive: archive}); err != nil || s.Candidate != "sha256:bb" {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := c.Shadow(t.Context()); err != nil || !s.Running || s.Compared != 7 {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := c.StopShadow(t.Context()); err != nil || s.Running || s.Compared != 8 {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := c.PromoteShadow(t.Context(), ShadowPromote{Why: "clean", Force: true}); err != nil {
		t.Error(err)
	}
	h.check(t, fmt.Sprintf("try %d bytes for more by os", len(archive)), "stop trying by os", "promote for clean by os, force true")
}

func TestACandidateThatIsRefusedSaysWhy(t *testing.T) {
	h := &house{reloadErr: errors.New("it is tried already")}
	c := client(t, start(t, h, Config{}))
	_, started := c.StartShadow(t.Context(), ShadowStart{})
	_, stopped := c.StopShadow(t.Context())
	for _, err := range []error{started, stopped, c.PromoteShadow(t.Context(), ShadowPromote{})} {
		if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusUnprocessableEntity || refused.Text != "it is tried already" {
			t.Errorf("got %v", err)
		}
	}
	_, err := c.StartShadow(t.Context(), ShadowStart{Name: strings.Repeat("x", maxName+1)})
	if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusBadRequest {
		t.Errorf("a long name: %v", err)
	}
}
