package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
	"sallyport/certs/keyring"
)

// fakeKeyd has a signing log as keyd does: bounded, in answers of two entries.
type fakeKeyd struct {
	boot    string
	entries []keyring.SigningEntry
	dropped uint64 // how many of them are gone
}

func (f *fakeKeyd) read(_ context.Context, after uint64) (keyring.SigningLog, error) {
	l := keyring.SigningLog{Boot: f.boot, Oldest: f.dropped + 1, Next: uint64(len(f.entries)) + 1}
	for _, e := range f.entries[min(max(after, f.dropped), uint64(len(f.entries))):] {
		if len(l.Entries) < 2 {
			l.Entries = append(l.Entries, e)
		}
	}
	return l, nil
}

func (f *fakeKeyd) refuse(code string, n int) {
	for range n {
		f.entries = append(f.entries, keyring.SigningEntry{Seq: uint64(len(f.entries)) + 1, Refusal: &keyring.SigningRefusal{Op: "sign_assertion", Code: code, Key: "wiki", Why: "no"}})
	}
}

func (f *fakeKeyd) window(op string, codes map[string]uint64, dropped uint64) {
	w := &keyring.SigningWindow{Rows: []keyring.SigningRow{{Key: "wiki", Op: op}}, Codes: codes, Dropped: dropped}
	w.Rows[0].Signed = 1
	f.entries = append(f.entries, keyring.SigningEntry{Seq: uint64(len(f.entries)) + 1, Window: w})
}

// restart is a keyd that begins anew.
func (f *fakeKeyd) restart() { f.boot, f.entries, f.dropped = f.boot+"'", nil, 0 }

// gatewayLog is a control log, with the gateways that write it one after another.
type gatewayLog struct {
	t     *testing.T
	dir   string
	audit *audit.Audit
	keyd  *fakeKeyd
	full  bool // nothing can be written
	said  *bytes.Buffer
}

func newGatewayLog(t *testing.T) *gatewayLog {
	g := &gatewayLog{t: t, dir: t.TempDir(), keyd: &fakeKeyd{boot: "A"}, said: &bytes.Buffer{}}
	var err error
	g.audit, err = audit.Open(audit.Config{Dir: g.dir, Origin: "corp.example/audit", SegmentSize: 1 << 20}, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.audit.Close() })
	return g
}

// start is what a gateway does when it starts.
func (g *gatewayLog) start() *keyLog {
	g.t.Helper()
	k := &keyLog{
		read: g.keyd.read, record: g.record, log: slog.New(slog.NewTextHandler(g.said, nil)), listed: map[string]uint64{},
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "refusals"}, []string{"code"}),
	}
	if err := k.resume(g.t.Context(), g.reader(), g.audit.Control().Records()); err != nil {
		g.t.Fatal(err)
	}
	return k
}

func (g *gatewayLog) record(ctx context.Context, code string, detail any) error {
	if g.full {
		return errors.New("no space left on device")
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	_, err = g.audit.Control().Append(ctx, &audit.Record{Type: audit.TypeControl, Code: code, Actor: &audit.Actor{Kind: "gateway", ID: "pid:1"}, Detail: text})
	return err
}

func (g *gatewayLog) reader() *audit.Reader {
	r, err := audit.OpenReader(g.dir, audit.ControlLog)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { r.Close() })
	return r
}

// records are the codes on record, each with its run and number.
func (g *gatewayLog) records() []string {
	g.t.Helper()
	var list []string
	for e, err := range g.reader().All(g.t.Context(), audit.Filter{Where: isKeyRecord}) {
		if err != nil {
			g.t.Fatal(err)
		}
		var at keyMark
		if err := json.Unmarshal(e.Record.Detail, &at); err != nil {
			g.t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s %s%d", e.Record.Code, at.Run, at.Seq))
	}
	return list
}

func (g *gatewayLog) want(list ...string) {
	g.t.Helper()
	if got := g.records(); !slices.Equal(got, list) {
		g.t.Errorf("got  %q\nwant %q", got, list)
	}
}

// KEY-05: what keyd refused and signed is in the control log once, whatever starts anew in between, and what cannot be
// there any more is said to be missing.
func TestKEY05SigningLogIsCarriedOver(t *testing.T) {
	g := newGatewayLog(t)
	k := g.start()
	k.look(t.Context())
	g.want()
	g.keyd.refuse("wrong_purpose", 3)
	g.keyd.window("sign_tls13_server", map[string]uint64{"wrong_purpose": 3}, 0)
	k.look(t.Context())
	k.look(t.Context())
	on := []string{"key_refused A1", "key_refused A2", "key_refused A3", "key_use A4"}
	g.want(on...)

	g.keyd.refuse("refused", 1) // while no gateway runs
	k = g.start()
	k.look(t.Context())
	on = append(on, "key_refused A5")
	g.want(on...)

	g.full = true // a disk that is full holds it up and loses nothing
	g.keyd.refuse("refused", 2)
	k.look(t.Context())
	g.full = false
	k.look(t.Context())
	on = append(on, "key_refused A6", "key_refused A7")
	g.want(on...)

	g.keyd.restart()
	g.keyd.refuse("malformed", 1)
	k.look(t.Context())
	on = append(on, "key_log_gap A'0", "key_refused A'1")
	g.want(on...)

	g.keyd.refuse("refused", 3) // of which keyd dropped two before we looked
	g.keyd.dropped = 3
	k.look(t.Context())
	on = append(on, "key_log_gap A'3", "key_refused A'4")
	g.want(on...)

	g.keyd.restart() // both
	k = g.start()
	k.look(t.Context())
	k = g.start()
	k.look(t.Context())
	g.want(append(on, "key_log_gap A''0")...)
}

// A gateway whose log has no word of keyd takes all that keyd has, and says what was gone already.
func TestFirstLookTakesWhatThereIs(t *testing.T) {
	g := newGatewayLog(t)
	g.keyd.refuse("refused", 5)
	g.keyd.dropped = 2
	g.start().look(t.Context())
	g.want("key_log_gap A2", "key_refused A3", "key_refused A4", "key_refused A5")
}

// A record about checkpoints alone would need a checkpoint, and that a record.
func TestCheckpointsAloneMakeNoRecord(t *testing.T) {
	g := newGatewayLog(t)
	k := g.start()
	g.keyd.window("sign_checkpoint", nil, 0)
	g.keyd.window("sign_manifest", nil, 0)
	g.keyd.window("sign_checkpoint", nil, 0)
	k.look(t.Context())
	g.want("key_use A2")
	k.look(t.Context())
	g.want("key_use A2")
}

func counted(t *testing.T, c prometheus.Collector, code string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == code {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// Refusals are counted as they come, those without an entry with their window, and none twice.
func TestRefusalsAreCountedAndAlarmed(t *testing.T) {
	g := newGatewayLog(t)
	k := g.start()
	count := func(code string) float64 { return counted(t, k.refusals, code) }
	g.keyd.refuse("wrong_purpose", 2)
	g.keyd.refuse("limited", 1)
	k.look(t.Context())
	if a, b := count("wrong_purpose"), count("limited"); a != 2 || b != 1 {
		t.Errorf("got %v and %v, want 2 and 1", a, b)
	}
	if n := strings.Count(g.said.String(), "level=ERROR"); n != 2 {
		t.Errorf("got %d errors, want 2: %s", n, g.said)
	}
	g.keyd.window("sign_assertion", map[string]uint64{"wrong_purpose": 1000, "limited": 1}, 998)
	k.look(t.Context())
	if a, b := count("wrong_purpose"), count("limited"); a != 1000 || b != 1 {
		t.Errorf("got %v and %v, want 1000 and 1", a, b)
	}
	if !strings.Contains(g.said.String(), "flooded") {
		t.Errorf("a flood is not told of: %s", g.said)
	}
	g.keyd.refuse("wrong_purpose", 1)
	g.keyd.window("sign_assertion", map[string]uint64{"wrong_purpose": 1}, 0)
	k.look(t.Context())
	if a := count("wrong_purpose"); a != 1001 {
		t.Errorf("got %v, want 1001", a)
	}
}
