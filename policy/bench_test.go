package policy

import (
	"testing"
	"time"
)

// BenchmarkDecide asks about a person in 40 groups among 50 apps with 200 rules. Each variant includes what a gateway
// does per request: the time, the bounds, the record's bytes.
func BenchmarkDecide(b *testing.B) {
	for _, c := range []struct {
		name string
		memo bool
	}{{"evaluated", false}, {"remembered", true}} {
		e := newEngine(b, Config{Memo: c.memo}, company(), nil)
		in := employee("app-05")
		wantAllowed(b, e, in)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Decide(b.Context(), in)
			}
		})
		b.Run(c.name+"/with-input", func(b *testing.B) {
			b.ReportAllocs()
			var record []byte
			for b.Loop() {
				in.Context.SetTime(monday, time.UTC)
				if err := in.Bound(); err != nil {
					b.Fatal(err)
				}
				record = in.AppendJSON(record[:0])
				e.Decide(b.Context(), in)
			}
		})
	}
}

func wantAllowed(b *testing.B, e *Engine, in *Input) {
	b.Helper()
	for range 2 {
		if v := e.Decide(b.Context(), in); !v.Allow {
			b.Fatalf("%s", v.JSON)
		}
	}
}

func BenchmarkInput(b *testing.B) {
	in := employee("app-05")
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = in.AppendJSON(buf[:0])
		}
	})
	b.Run("bound", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := in.Bound(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("term", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			in.term()
		}
	})
}

// BenchmarkRederive is what checking one recorded decision costs: its input is read, held against its canonical form, and
// evaluated, anew or once for all that the policy cannot tell apart.
func BenchmarkRederive(b *testing.B) {
	e := newEngine(b, Config{Memo: true}, company(), nil)
	in := employee("app-05")
	in.Context.SetTime(monday, time.UTC)
	record := in.AppendJSON(nil)
	for name, rederive := range map[string]func() *Verdict{
		"evaluated": func() *Verdict { return e.Recompute(b.Context(), record) },
		"shared":    func() *Verdict { return e.Rederive(b.Context(), record, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			if v := rederive(); !v.Allow {
				b.Fatalf("%s", v.JSON)
			}
			b.ReportAllocs()
			for b.Loop() {
				rederive()
			}
		})
	}
}
