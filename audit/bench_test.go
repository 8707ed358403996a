package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit/segment"
)

// personIn40Groups is a decision as the gateway records it, of a person in 40 groups.
func personIn40Groups() *Record {
	var groups []string
	for i := range 40 {
		groups = append(groups, fmt.Sprintf("team-%02d@corp.example", i))
	}
	input, err := json.Marshal(map[string]any{
		"subject": map[string]any{
			"type": "user", "id": "corp|00u1b2c3d4e5f6g7h8i9", "email": "ann.example@corp.example", "email_verified": true,
			"groups": groups, "authn": map[string]any{"provider": "corp", "acr": "urn:mfa", "amr": []string{"pwd", "otp"}, "age_s": 600, "mfa": true},
			"session": map[string]any{"id": "01a205dd2b9c760197ea", "age_s": 600, "idle_s": 60},
		},
		"action": map[string]any{"name": "read", "method": "GET", "protocol": "HTTP/2.0"},
		"resource": map[string]any{
			"type": "app", "id": "wiki", "host": "wiki.corp.example", "path": "/pages/2026/plan", "segments": []string{"pages", "2026", "plan"},
			"query": "v=7", "labels": map[string]string{"env": "prod"}, "owner": "docs",
		},
		"context": map[string]any{
			"time_ns": 1795312803000000004, "time": "2026-11-23T01:00:03Z", "weekday": "mon", "hour": 1,
			"client": map[string]any{"ip": "192.0.2.7"}, "request": map[string]any{"id": "01a205dd", "user_agent": strings.Repeat("Mozilla/5.0 ", 9)},
		},
	})
	if err != nil {
		panic(err)
	}
	return &Record{
		Type: TypeDecision, RequestID: "01a205dd2b9c760197ea400ef6af70f0", Session: "01a205dd2b9c760197ea", App: "wiki",
		Effect: Allow, Reason: "policy", Input: input, Memo: true,
		Policy:   Policy{Digest: policyDigest(nil), Revision: "2026-11-22"},
		Decision: json.RawMessage(`{"allow":true,"reasons":[{"code":"groups","rule":"wiki/0","user":"","admin":"member of team-07"}],"obligations":[]}`),
	}
}

// BenchmarkAppend measures durable appends, with the tree growing and being signed behind them, beside what the disk does
// for the same number of bytes at a time.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) { benchmarkAppend(b, writers, personIn40Groups(), true) })
	}
	b.Run("256 without tree", func(b *testing.B) { benchmarkAppend(b, 256, personIn40Groups(), false) })
	b.Run("64 small", func(b *testing.B) { benchmarkAppend(b, 64, decision("/"), true) })
}

func benchmarkAppend(b *testing.B, writers int, r *Record, keep bool) {
	a, err := Open(Config{Dir: b.TempDir()}, quiet(Options{segmentSize: defaultSegmentSize}))
	if err != nil {
		b.Fatal(err)
	}
	keys := newKeyProcess()
	stop := func() {}
	if keep {
		stop = keeping(b, a, Keeping{Signer: keys})
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([]time.Duration, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				began := time.Now()
				if _, err := a.Decisions().Append(context.Background(), r); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	stop()
	if signed := keys.position(DecisionLog).Size; keep && signed != uint64(b.N) {
		b.Fatalf("%d of %d records are signed", signed, b.N)
	}
	b.ReportMetric(float64(keys.asked), "checkpoints")
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	frame := segment.Padded(writers * (len(mustLine(b, r)) + maxSeqDigits))
	b.ReportMetric(float64(diskSync(b, frame).Microseconds()), "disk-µs")
}

// diskSync is how long the disk takes to make so many bytes durable in a preallocated file.
func diskSync(b *testing.B, size int) time.Duration {
	const times = 50
	d, err := openDirectory(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	f, err := d.OpenFile("disk", os.O_RDWR|os.O_CREATE)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := (&blank{file: f, size: int64(times * size)}).fill(); err != nil {
		b.Fatal(err)
	}
	data := []byte(strings.Repeat("x", size))
	began := time.Now()
	for i := range int64(times) {
		if _, err := f.WriteAt(data, i*int64(size)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began) / times
}

func BenchmarkEncode(b *testing.B) {
	r := personIn40Groups()
	document := *r
	document.Input, document.Document = nil, verbatim(r.Input)
	outcome := &Record{Type: TypeOutcome, RequestID: r.RequestID, Session: r.Session, App: r.App,
		Outcome: &Outcome{Of: r.RequestID, Status: 200, BytesOut: 1024, DurationNS: 1234567}}
	for name, r := range map[string]*Record{"input": r, "document": &document, "outcome": outcome} {
		b.Run(name, func(b *testing.B) { benchmarkEncode(b, r) })
	}
}

func benchmarkEncode(b *testing.B, r *Record) {
	s := stamp{id: new(ids).next(time.Now()), log: DecisionLog, boot: Boot{ID: "01a205dd-2b9c-7601-97ea-400ef6af70f0", N: 7}, time: time.Now(), replica: "gw-1"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		line, _, err := appendRecord(buf[:0], r, &s)
		if err != nil {
			b.Fatal(err)
		}
		buf = line
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	a, err := Open(Config{Dir: dir}, quiet(Options{segmentSize: defaultSegmentSize}))
	if err != nil {
		b.Fatal(err)
	}
	for range 1000 {
		if err := a.Decisions().Post(context.Background(), personIn40Groups()); err != nil {
			b.Fatal(err)
		}
	}
	mustAppend(b, a.Decisions(), "/")
	defer a.Close()
	for name, f := range map[string]Filter{"all": {}, "other app": {App: "payroll"}, "user": {User: "bob@corp.example"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for _, err := range openReader(b, dir).All(context.Background(), f) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "records/s")
		})
	}
}
