package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/audit"
)

// sequence yields records, and then an error if there is one.
func sequence(all []audit.Entry, err error) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(audit.Entry{}, err)
		}
	}
}

// many are so many decisions.
func many(t testing.TB, n int) []audit.Entry {
	all := make([]audit.Entry, n)
	for i := range all {
		all[i] = entryOf(t, decision(i%7), uint64(i))
	}
	return all
}

func TestWorkersWriteWhatOneWriterWrites(t *testing.T) {
	all := many(t, 3*batchRecords+17)
	for _, format := range Formats() {
		want := written(t, format, Options{}, all...)
		for _, workers := range []int{0, 1, 3, 8} {
			var out bytes.Buffer
			w, err := New(format, &out, Options{})
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			s, err := Run(t.Context(), sequence(all, nil), w, RunOptions{Workers: workers, Progress: func(Summary) { calls++ }})
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != want {
				t.Errorf("%s with %d workers is something else", format, workers)
			}
			if want := (Summary{uint64(len(all)), Cursor{audit.DecisionLog, uint64(len(all))}}); s != want || calls < 4 {
				t.Errorf("%s: %+v after %d calls, want %+v", format, s, calls, want)
			}
		}
	}
}

func TestAnExportGoesOnFromItsCursor(t *testing.T) {
	all := many(t, 2*batchRecords)
	whole := written(t, JSONL, Options{}, all...)
	broken := errors.New("disk trouble")
	for _, n := range []int{0, 1, batchRecords, batchRecords + 1, 2*batchRecords - 1} {
		var first, second bytes.Buffer
		w, _ := New(JSONL, &first, Options{})
		s, err := Run(t.Context(), sequence(all[:n], broken), w, RunOptions{})
		if !errors.Is(err, broken) || s.Records != uint64(n) {
			t.Fatalf("after %d records: %+v, %v", n, s, err)
		}
		if s.Records == 0 && s.Cursor != (Cursor{}) {
			t.Fatalf("cursor %v behind nothing", s.Cursor)
		}
		if n > 0 {
			if s.Cursor, err = ParseCursor(s.Cursor.String()); err != nil {
				t.Fatal(err)
			}
		}
		w, _ = New(JSONL, &second, Options{})
		if _, err := Run(t.Context(), sequence(all[s.Cursor.Next:], nil), w, RunOptions{}); err != nil {
			t.Fatal(err)
		}
		if first.String()+second.String() != whole {
			t.Errorf("after %d records: the two exports are not the whole", n)
		}
	}
	for _, bad := range []string{"", "decision", "decision:", "decision:-1", "other:1", "decision:1x"} {
		if c, err := ParseCursor(bad); err == nil {
			t.Errorf("%q is the cursor %v", bad, c)
		}
	}
}

// full is a disk that takes so many bytes.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestErrorsEndAnExport(t *testing.T) {
	all := many(t, 20*batchRecords)
	w, _ := New(JSONL, &full{room: 1 << 20}, Options{Disclose: true})
	var read atomic.Int64
	counted := func(yield func(audit.Entry, error) bool) {
		for e := range sequence(all, nil) {
			read.Add(1)
			if !yield(e, nil) {
				return
			}
		}
	}
	if s, err := Run(t.Context(), counted, w, RunOptions{}); !errors.Is(err, errFull) || s.Records >= uint64(len(all)) {
		t.Errorf("a full disk: %+v, %v", s, err)
	}
	if read.Load() == int64(len(all)) {
		t.Error("the whole log was read for a full disk")
	}

	spoilt := append(many(t, batchRecords+5), audit.Entry{}, all[0])
	var out bytes.Buffer
	w, _ = New(OCSF, &out, Options{Disclose: true})
	s, err := Run(t.Context(), sequence(spoilt, errors.New("later")), w, RunOptions{})
	if !errors.Is(err, ErrNotJSON) || s.Records != batchRecords+5 || strings.Count(out.String(), "\n") != batchRecords+5 {
		t.Errorf("a record that is none: %+v, %v, %d lines", s, err, strings.Count(out.String(), "\n"))
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("interrupted")
	n := 0
	endless := func(yield func(audit.Entry, error) bool) {
		for {
			if n++; n == 1000 {
				cancel(gone)
			}
			if !yield(all[n%len(all)], nil) {
				return
			}
		}
	}
	w, _ = New(JSONL, &out, Options{})
	if s, err := Run(ctx, endless, w, RunOptions{}); !errors.Is(err, gone) || s.Records != 999 {
		t.Errorf("cancelled: %+v, %v", s, err)
	}
}

// rowGroups is a writer as one of Parquet would be: it needs all records before it writes the first.
type rowGroups struct {
	out  bytes.Buffer
	seqs []uint64
}

func (w *rowGroups) Write(e audit.Entry) error { w.seqs = append(w.seqs, After(e).Next-1); return nil }
func (w *rowGroups) Close() error              { _, err := fmt.Fprint(&w.out, w.seqs); return err }

func TestAWriterOfAnotherKindIsGivenOneRecordAfterAnother(t *testing.T) {
	w := new(rowGroups)
	all := many(t, 300)
	for i := range all {
		all[i].Record = nil // what a reader of raw lines yields
	}
	s, err := Run(t.Context(), sequence(all, nil), w, RunOptions{})
	if err != nil || s.Records != 300 || s.Cursor != (Cursor{audit.DecisionLog, 300}) || !strings.HasPrefix(w.out.String(), "[0 1 2 ") {
		t.Errorf("%+v, %v, %.30s", s, err, w.out.String())
	}
}

func benchmark(b *testing.B, format string, o Options) {
	all := many(b, 2048)
	size := 0
	for i := range all {
		r := decision(0)
		r.Input = leanInput(40)
		all[i] = entryOf(b, r, uint64(i))
		size += len(all[i].Raw)
	}
	b.SetBytes(int64(size / len(all)))
	b.ReportMetric(float64(size/len(all)), "bytes/record")
	records := func(yield func(audit.Entry, error) bool) {
		for i := 0; b.Loop(); i++ {
			if !yield(all[i%len(all)], nil) {
				return
			}
		}
	}
	w, err := New(format, nowhere{}, o)
	if err != nil {
		b.Fatal(err)
	}
	before := processorTime(b)
	s, err := Run(b.Context(), records, w, RunOptions{})
	if err != nil {
		b.Fatal(err)
	}
	// What two cores would do if they did nothing else: the machine may be busy.
	b.ReportMetric(2*float64(s.Records)/(processorTime(b)-before).Seconds(), "records/2cpu-s")
	b.ReportMetric(float64(s.Records)/b.Elapsed().Seconds(), "records/s")
}

// leanInput is an input of 1.1 KB, of a person in so many groups, as most are.
func leanInput(groups int) json.RawMessage {
	var names []string
	for i := range groups {
		names = append(names, fmt.Sprintf(`"team-%02d"`, i))
	}
	return json.RawMessage(`{"subject":{"type":"user","id":"corp|00u1a2b3c4","email":"` + secretEmail + `","email_verified":true,"groups":[` + strings.Join(names, ",") +
		`],"groups_incomplete":false,"claims":{},"authn":{"provider":"corp","amr":["pwd","otp"],"time":"2026-11-02T08:00:00Z","age_s":1800,"mfa":true},"session":{"id":"5f1c","age_s":1800},"grants":[]},` +
		`"action":{"name":"read","method":"GET","protocol":"HTTP/2.0","upgrade":""},"resource":{"type":"app","id":"payroll","labels":{},"sensitivity":"","owner":"","host":"payroll.corp.example","path":"/people/7","segments":["people","7"],"query":""},` +
		`"context":{"time_ns":1793608200000000000,"time":"2026-11-02T09:30:00+01:00","weekday":"mon","hour":9,"client":{"ip":"` + secretIP + `"},"tls":{"version":"1.3","cipher":"TLS_AES_128_GCM_SHA256","sni":"payroll.corp.example","alpn":"h2"},` +
		`"request":{"id":"01JC","content_type":"","user_agent":"` + secretAgent + `","origin":"","fetch_site":"same-origin","cross_origin":false,"headers":{}}}}`)
}

// processorTime is what this process has used of all processors.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

func BenchmarkJSONL(b *testing.B)         { benchmark(b, JSONL, Options{Disclose: true}) }
func BenchmarkJSONLRedacted(b *testing.B) { benchmark(b, JSONL, Options{}) }
func BenchmarkOCSF(b *testing.B)          { benchmark(b, OCSF, Options{Disclose: true}) }
func BenchmarkOCSFRedacted(b *testing.B)  { benchmark(b, OCSF, Options{}) }
func BenchmarkCSV(b *testing.B)           { benchmark(b, CSV, Options{Disclose: true}) }
func BenchmarkCEF(b *testing.B)           { benchmark(b, CEF, Options{Disclose: true}) }
func BenchmarkSyslog(b *testing.B)        { benchmark(b, Syslog, Options{Disclose: true}) }

// BenchmarkEncode is what one record costs one core, whatever brings it there.
func BenchmarkEncode(b *testing.B) {
	r := decision(0)
	r.Input = leanInput(40)
	e := entryOf(b, r, 7)
	for _, format := range Formats() {
		for how, o := range map[string]Options{"redacted": {}, "disclosed": {Disclose: true}} {
			b.Run(format+"/"+how, func(b *testing.B) {
				encoder, err := NewEncoder(format, o)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(e.Raw)))
				b.ReportAllocs()
				var buf []byte
				before := processorTime(b)
				for b.Loop() {
					if buf, err = encoder.Append(buf[:0], e); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
