package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func (h *house) Renewals() []Renewal {
	return []Renewal{{Host: "wiki.corp.example", Key: "wiki", Failures: 2, Reason: "dns"}}
}

func (h *house) RenewCertificate(_ context.Context, what Renew) error {
	if what.Host != "wiki.corp.example" {
		return fmt.Errorf("%w host %q", ErrUnknown, what.Host)
	}
	h.did("renew " + what.Host)
	return nil
}

func (h *house) RevokeCertificate(_ context.Context, what Revocation) error {
	h.did("revoke " + what.Host + " for " + what.Reason)
	return errors.New("the authority is away")
}

// Whoever has a certificate replaced or revoked is on record before it happens, and so is the failure.
func TestCertificatesAreRenewedAndRevokedOnRecord(t *testing.T) {
	h := &house{}
	c := client(t, start(t, h, Config{}))
	if list, err := c.Renewals(t.Context()); err != nil || len(list) != 1 || list[0].Reason != "dns" {
		t.Errorf("got %+v %v, want the one certificate", list, err)
	}
	if list, err := c.Renew(t.Context(), Renew{Host: "wiki.corp.example"}); err != nil || len(list) != 1 {
		t.Errorf("got %+v %v", list, err)
	}
	_, err := c.Renew(t.Context(), Renew{Host: "evil.example"})
	if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusUnprocessableEntity {
		t.Errorf("another host: got %v, want it refused", err)
	}
	if _, err := c.RevokeCertificate(t.Context(), Revocation{Host: "wiki.corp.example", Reason: "key-compromise"}); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("got %v, want what the authority said", err)
	}
	h.check(t, "record certificate_renew", "renew wiki.corp.example", "record certificate_renew", "record certificate_renew_failed",
		"record certificate_revoke", "revoke wiki.corp.example for key-compromise", "record certificate_revoke_failed")
}
