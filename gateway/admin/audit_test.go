package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"sallyport/audit/report"
)

func (h *house) SignManifest(_ context.Context, sha256 [32]byte) ([]byte, error) {
	h.did("sign manifest")
	if sha256 == [32]byte{} {
		return nil, errors.New("no key")
	}
	return []byte("a note"), nil
}

func (h *house) VerifierKeys(context.Context) ([]string, error) { return []string{"a+b+c"}, nil }

func (h *house) Reindex(context.Context) error {
	h.did("reindex")
	return nil
}

func askToDisclose(socket string) int {
	if err := NewClient(socket).AnnounceRead(context.Background(), Reading{Command: "export", Log: "both", Disclose: true}); err != nil {
		fmt.Print("refused: ", err)
		return 1
	}
	fmt.Print("announced")
	return 0
}

// What auditors ask for is on record before they get it.
func TestAuditorsAreOnRecord(t *testing.T) {
	h := &house{}
	c := client(t, start(t, h, Config{}))
	if err := c.Review(t.Context(), report.Review{Person: "corp|7", App: "payroll", Decision: "revoke", Note: "left the team"}); err != nil {
		t.Error(err)
	}
	h.check(t, "record access_reviewed")
	if got := string(h.records[0].Detail); got != `{"person":"corp|7","app":"payroll","decision":"revoke","note":"left the team"}` {
		t.Errorf("recorded %s", got)
	}
	if note, err := c.SignManifest(t.Context(), [32]byte{1}); err != nil || string(note) != "a note" {
		t.Errorf("got %q, %v", note, err)
	}
	h.check(t, "record bundle_signed", "sign manifest")
	if err := c.Reindex(t.Context()); err != nil {
		t.Error(err)
	}
	h.check(t, "record audit_reindex", "reindex")
	if keys, err := c.VerifierKeys(t.Context()); err != nil || len(keys) != 1 || keys[0] != "a+b+c" {
		t.Errorf("got %q, %v", keys, err)
	}
	h.check(t)
}

func TestAReviewThatSaysNothingIsRefused(t *testing.T) {
	h := &house{}
	c := client(t, start(t, h, Config{}))
	for _, wrong := range []report.Review{
		{App: "payroll", Decision: "keep"},
		{Person: "corp|7", Decision: "keep"},
		{Person: "corp|7", App: "payroll"},
		{Person: "corp|7", App: "payroll", Decision: "maybe"},
		{Person: strings.Repeat("x", 2000), App: "payroll", Decision: "keep"},
		{Person: "corp|7", App: "payroll", Decision: "keep", Note: strings.Repeat("x", 3000)},
	} {
		err := c.Review(t.Context(), wrong)
		if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusBadRequest {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	h.check(t)
}

// ADM-06: to see personal data as it is takes a permission beyond that to operate the gateway, and asking without is on record.
func TestDisclosureTakesAPermission(t *testing.T) {
	const operators, auditors = 54321, 54322
	h := &house{}
	socket := start(t, h, Config{Group: "54321", DiscloseGroup: "54322"})
	t.Setenv("ADMIN_TEST_DISCLOSE", "1")
	if got := runAs(t, socket, 65534, operators); !strings.Contains(got, "may not see personal data") {
		t.Errorf("an operator: %s", got)
	}
	h.check(t, "record admin_refused")
	if got := runAs(t, socket, 65534, operators, auditors); got != "announced" {
		t.Errorf("an auditor: %s", got)
	}
	h.check(t, "record log_read")
	if got := string(h.records[1].Detail); got != `{"command":"export","log":"both","disclose":true}` {
		t.Errorf("recorded %s", got)
	}
	if err := client(t, socket).AnnounceRead(t.Context(), Reading{Command: "export", Log: "both", Disclose: true}); err != nil || os.Getuid() != 0 {
		t.Errorf("root: %v", err)
	}
	h.check(t, "record log_read")
}

// ADM-06: the right to read the logs is the caller's account. No address hands a log out, to those who may operate the
// gateway neither, so there is none to share; and to announce a read takes a POST, which is on record.
func TestADM06_NoAddressIsAKeyToTheLogs(t *testing.T) {
	h := &house{}
	socket := start(t, h, Config{})
	for _, path := range []string{"/v1/audit", "/v1/audit/", "/v1/audit/read", "/v1/audit/read?token=x", "/v1/audit/export", "/v1/audit/export?app=payroll",
		"/v1/audit/bundle.zip", "/audit/decision/0000000000000000.log", "/export/abc", "/v1/audit/manifest"} {
		if status, text := ask(t, socket, "GET", path, "", ""); status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: got %d %s", path, status, text)
		}
	}
	h.check(t)
}

func TestAManifestThatIsNotSignedIsAFailure(t *testing.T) {
	h := &house{}
	socket := start(t, h, Config{})
	if _, err := client(t, socket).SignManifest(t.Context(), [32]byte{}); err == nil {
		t.Error("there is a signature")
	}
	h.check(t, "record bundle_signed", "sign manifest", "record bundle_signed_failed")
	if status, text := ask(t, socket, "POST", "/v1/audit/manifest", "application/json", `{"sha256":"00"}`); status != http.StatusBadRequest {
		t.Errorf("a short digest: %d %s", status, text)
	}
	h.check(t)
}
