package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"sallyport/audit"
)

func (h *house) Policies(context.Context) ([]KeptPolicy, error) {
	return []KeptPolicy{{Digest: "sha256:aa", Active: true}}, nil
}

func (h *house) UsePolicy(_ context.Context, by *audit.Actor, what PolicyUse) error {
	h.did("use " + what.Digest + " for " + what.Why + " by " + by.Kind)
	return h.reloadErr
}

func (h *house) ReleasePolicy(_ context.Context, by *audit.Actor, what PolicyRelease) error {
	h.did("release for " + what.Why + " by " + by.Kind)
	return h.reloadErr
}

func TestPoliciesAreUsedByWhoAsks(t *testing.T) {
	h := &house{}
	c := client(t, start(t, h, Config{}))
	if list, err := c.Policies(t.Context()); err != nil || len(list) != 1 || !list[0].Active {
		t.Errorf("got %+v, %v", list, err)
	}
	if err := c.UsePolicy(t.Context(), PolicyUse{Digest: "aa", Why: "it was good"}); err != nil {
		t.Error(err)
	}
	if err := c.ReleasePolicy(t.Context(), PolicyRelease{Why: "mended"}); err != nil {
		t.Error(err)
	}
	h.check(t, "use aa for it was good by os", "release for mended by os")
}

func TestAPolicyThatIsRefusedSaysWhy(t *testing.T) {
	h := &house{reloadErr: errors.New("line 3: no such rule")}
	c := client(t, start(t, h, Config{}))
	err := c.UsePolicy(t.Context(), PolicyUse{})
	if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusUnprocessableEntity || refused.Text != "line 3: no such rule" {
		t.Errorf("got %v", err)
	}
	err = c.ReleasePolicy(t.Context(), PolicyRelease{Why: strings.Repeat("x", maxWhy+1)})
	if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusBadRequest {
		t.Errorf("got %v", err)
	}
	h.check(t, "use  for  by os")
}
