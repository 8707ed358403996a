package boot

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/policy"
)

// A remembered answer that was wrong is told in all places where people look.
func TestWrongMemoIsLoud(t *testing.T) {
	bundle, err := policy.Build(policy.Config{}, []policy.App{{Name: "wiki"}})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	logs, err := audit.Open(audit.Config{Dir: dir, Origin: "corp.test/audit", SegmentSize: 1 << 20}, audit.Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	a := &assembly{opts: Options{Log: slog.New(slog.NewTextHandler(&printed, nil))}, audit: logs}
	a.noteMemoDifference(t.Context(), engine, &policy.MemoDifference{App: "wiki", Input: []byte("{}"),
		Remembered: &policy.Verdict{Allow: true, Reason: "allow", JSON: []byte(`{"allow":true}`)}, Evaluated: &policy.Verdict{Reason: "policy", JSON: []byte(`{"allow":false}`)}})
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
	if got := printed.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "a remembered answer was wrong") || !strings.Contains(got, engine.Digest()) {
		t.Errorf("printed: %s", got)
	}
	if got := a.memo.differences.Load(); got != 1 {
		t.Errorf("counted %d", got)
	}
	reader, err := audit.OpenReader(dir, audit.ControlLog)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var details []string
	for entry, err := range reader.All(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Record.Code == "memo_difference" {
			details = append(details, string(entry.Record.Detail))
		}
	}
	if len(details) != 1 || !strings.Contains(details[0], `"remembered":{"allow":true}`) || !strings.Contains(details[0], `"evaluated":{"allow":false}`) ||
		!strings.Contains(details[0], "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a") {
		t.Errorf("on record: %v", details)
	}
}
