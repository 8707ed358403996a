package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"pgregory.net/rapid"

	"sallyport/audit"
	"sallyport/audit/filter/peek"
)

// Few values, so that random records often meet random filters.
var (
	words   = []string{"", "a", "b", "payroll", "allow", "x@y.example", "X@Y.example", "corp|1", "\u202e", "é\"\\"}
	moments = []time.Time{
		time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 1, time.UTC), time.Date(2026, 11, 2, 8, 30, 0, 0, time.UTC),
		time.Date(2026, 11, 2, 8, 30, 0, 999999999, time.UTC), time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	numbers = []int64{0, 1, 2, 41, 1 << 40, 1<<63 - 1}
)

func word(t *rapid.T) string { return rapid.SampledFrom(words).Draw(t, "word") }
func instant(t *rapid.T) string {
	at := rapid.SampledFrom(moments).Draw(t, "time")
	layout := rapid.SampledFrom([]string{time.RFC3339Nano, time.DateOnly, "2006-01-02T15:04:05.999999999"}).Draw(t, "layout")
	return Quote(at.Format(layout))
}

// record is a random record as JSON would give it.
func record(t *rapid.T) *audit.Record {
	r := &audit.Record{
		ID: word(t), Log: "decision", Seq: uint64(rapid.SampledFrom(numbers).Draw(t, "seq")), Type: audit.Type(word(t)), Code: word(t),
		Boot: audit.Boot{ID: word(t), N: 3}, Time: rapid.SampledFrom(moments).Draw(t, "time"), Replica: "r", App: word(t), Effect: audit.Effect(word(t)),
		Reason: word(t), RequestID: word(t), Session: word(t), Memo: rapid.Bool().Draw(t, "memo"), Policy: audit.Policy{Digest: word(t)},
	}
	if rapid.Bool().Draw(t, "has input") {
		text, _ := json.Marshal(map[string]any{
			"subject": map[string]any{"id": word(t), "email": word(t), "groups": rapid.SliceOfN(rapid.SampledFrom(words), 0, 3).Draw(t, "groups"),
				"authn": map[string]any{"mfa": rapid.Bool().Draw(t, "mfa")}},
			"action":   map[string]any{"method": word(t)},
			"resource": map[string]any{"path": word(t)},
			"context":  map[string]any{"client": map[string]any{"ip": word(t)}},
		})
		r.Input = text
	}
	if rapid.Bool().Draw(t, "has outcome") {
		r.Outcome = &audit.Outcome{Of: word(t), Status: int(rapid.SampledFrom(numbers[:4]).Draw(t, "status")), Error: word(t)}
	}
	if rapid.Bool().Draw(t, "has actor") {
		r.Actor = &audit.Actor{Kind: "user", ID: word(t), Name: word(t)}
	}
	if rapid.Bool().Draw(t, "has decision") {
		text, _ := json.Marshal(map[string]any{"reasons": []map[string]string{{"rule": word(t)}, {"code": "x"}}})
		r.Decision = text
	}
	return r
}

// expression is a random expression of the kinds that run natively.
func expression(t *rapid.T, depth int) string {
	operator := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "operator")
	plain := rapid.SampledFrom([]string{"==", "!="}).Draw(t, "plain operator")
	field := rapid.SampledFrom([]string{"id", "type", "code", "app", "effect", "reason", "session", "policy", "of", "error", "email", "method", "path", "client_ip", "actor_name"}).Draw(t, "field")
	kinds := 12
	if depth > 0 {
		kinds = 18
	}
	flip := func(left, operator, right string) string {
		if rapid.Bool().Draw(t, "flip") {
			other := strings.NewReplacer("<", ">", ">", "<").Replace(operator)
			return right + " " + other + " " + left
		}
		return left + " " + operator + " " + right
	}
	switch rapid.IntRange(0, kinds).Draw(t, "kind") {
	case 0, 1:
		return flip(field, "==", Quote(word(t)))
	case 2:
		return flip(field, operator, Quote(word(t)))
	case 3:
		return flip("time", operator, instant(t))
	case 4:
		return flip(rapid.SampledFrom([]string{"seq", "status", "boot_n"}).Draw(t, "number"), operator, fmt.Sprint(rapid.SampledFrom(numbers).Draw(t, "n")))
	case 5:
		return flip("user", plain, Quote(word(t)))
	case 6:
		return "user in [" + Quote(word(t)) + ", " + Quote(word(t)) + "]"
	case 7:
		return Quote(word(t)) + " in " + rapid.SampledFrom([]string{"groups", "rules"}).Draw(t, "list")
	case 8:
		return field + " in [" + Quote(word(t)) + rapid.SampledFrom([]string{"", `, "payroll"`}).Draw(t, "more") + "]"
	case 9:
		return rapid.SampledFrom([]string{"memo", "mfa", "memo == false", "mfa != memo", "true", "false"}).Draw(t, "truth")
	case 10:
		return field + "." + rapid.SampledFrom([]string{"startsWith", "endsWith", "contains"}).Draw(t, "test") + "(" + Quote(word(t)) + ")"
	case 11:
		return "groups.exists(g, g == " + Quote(word(t)) + ")"
	case 12:
		return "size(" + field + ") > 1"
	case 13:
		return "!(" + expression(t, depth-1) + ")"
	case 14:
		return "(" + expression(t, depth-1) + " || " + expression(t, depth-1) + ")"
	}
	return expression(t, depth-1) + " && " + expression(t, depth-1)
}

// onlyCEL is an expression as CEL alone judges it.
func onlyCEL(t *rapid.T, expr string) *program {
	env, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	tree, issues := env.Parse(expr)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", expr, issues.Err())
	}
	if err := (&rewriter{tree: tree.NativeRep(), expr: expr}).run(); err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	checked, issues := env.Check(tree)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", expr, issues.Err())
	}
	p, err := env.Program(checked, cel.CostLimit(costLimit))
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return &program{p}
}

func TestNativeExpressionsAreWhatCELSays(t *testing.T) {
	chosen := 0
	rapid.Check(t, func(t *rapid.T) {
		expr := expression(t, 3)
		f, p := compile(t, expr), onlyCEL(t, expr)
		for range 4 {
			r := record(t)
			want, err := p.eval(&facts{record: r})
			if err != nil {
				t.Fatalf("%s: %v", expr, err)
			}
			if got := f.Matches(r); got != want {
				text, _ := json.Marshal(r)
				t.Fatalf("%s: chosen %v, CEL says %v of\n%s", expr, got, want, text)
			}
			if want {
				chosen++
			}
		}
	})
	if chosen < 20 {
		t.Errorf("only %d records were chosen at all", chosen)
	}
}

// rawOf is a record's JSON as the log writes it, but for what the log adds.
func rawOf(t *rapid.T, r *audit.Record) []byte {
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRawRecordsMatchAsDecodedOnesDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, r := compile(t, expression(t, 3)), record(t)
		if raw := rawOf(t, r); f.Matches(r) != f.MatchesRaw(raw) {
			t.Fatalf("%s: decoded %v, raw %v\n%s", f, f.Matches(r), f.MatchesRaw(raw), raw)
		}
	})
	f := compile(t, `app == ""`)
	all := compile(t, "")
	if !all.MatchesRaw([]byte(`{}`)) {
		t.Error("a filter that chooses everything refuses a record")
	}
	for _, raw := range []string{``, `{`, `nothing`, `{"app":"x"`} {
		if f.MatchesRaw([]byte(raw)) {
			t.Errorf("%q is a record", raw)
		}
	}
}

// checkBounds finds a record that a filter chooses and its bounds do not admit.
func checkBounds(bounds func(*Filter) Bounds) func(*rapid.T) error {
	return func(t *rapid.T) error {
		f := compile(t, expression(t, 4))
		b := bounds(f)
		for range 8 {
			if r := record(t); f.Matches(r) && !b.Admits(r) {
				return fmt.Errorf("%s: bounds %+v do not admit a record it chooses: %s", f, b, rawOf(t, r))
			}
		}
		return nil
	}
}

func TestWhatIsChosenIsWithinTheBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := checkBounds((*Filter).Bounds)(t); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatIsWithinExactBoundsIsChosen(t *testing.T) {
	exact := 0
	rapid.Check(t, func(t *rapid.T) {
		f := compile(t, expression(t, 2))
		if rapid.Bool().Draw(t, "and") {
			other := compile(t, expression(t, 1))
			both, err := And(f, other)
			if err != nil {
				t.Fatal(err)
			}
			f = both
		}
		if !f.Exact() {
			return
		}
		exact++
		for range 8 {
			if r := record(t); f.Bounds().Admits(r) != f.Matches(r) {
				t.Fatalf("%s: admits %v, chosen %v: %s", f, f.Bounds().Admits(r), f.Matches(r), rawOf(t, r))
			}
		}
	})
	if exact < 5 {
		t.Errorf("only %d exact filters", exact)
	}
	for expr, want := range map[string]bool{``: true, `true`: true, `app == "a" && time >= "2026-11-01" && seq < 9 && user == "x"`: true, `app in ["a"]`: true, `app != "a"`: false,
		`app == "a" && app == "b"`: false, `app == "a" && app == "a"`: true, `user == "a" && user == "b"`: false, `user == ""`: false, `seq < 0`: false, `seq >= 0`: false, `memo`: false,
		`app == "a" || app == "b"`: false, `app == "a" && size(groups) > 1`: false, `time != "2026-11-01"`: false, `app == ""`: true, `time < "0001-01-01"`: false} {
		if got := compile(t, expr).Exact(); got != want {
			t.Errorf("%q: exact %v, want %v", expr, got, want)
		}
	}
}

// Mistakes that would hide records from an index must be found by the same check.
func TestUnsoundBoundsAreFound(t *testing.T) {
	for name, mutant := range map[string]func(*Filter) Bounds{
		"an end that excludes its last moment": func(f *Filter) Bounds {
			b := f.Bounds()
			if !b.To.IsZero() {
				b.To = b.To.Add(-1)
			}
			return b
		},
		"a begin that excludes its first seq": func(f *Filter) Bounds {
			b := f.Bounds()
			if b.FromSeq > 0 {
				b.FromSeq++
			}
			return b
		},
		"disjunctions taken for conjunctions": func(f *Filter) Bounds {
			return compileLoosely(strings.ReplaceAll(f.String(), "||", "&&")).Bounds()
		},
		"negations taken for what they negate": func(f *Filter) Bounds {
			return compileLoosely(strings.ReplaceAll(f.String(), "!(", "(")).Bounds()
		},
		"users compared exactly": func(f *Filter) Bounds {
			b := f.Bounds()
			if b.User != "" {
				b.Equal["actor_name"] = b.User
			}
			return b
		},
	} {
		found := errors.New("found")
		if !rapidFinds(func(t *rapid.T) {
			if checkBounds(mutant)(t) != nil {
				panic(found)
			}
		}, found) {
			t.Errorf("%s: not found", name)
		}
	}
}

// rapidFinds draws examples until one panics with that value.
func rapidFinds(check func(*rapid.T), found error) (hit bool) {
	one := rapid.Custom(func(t *rapid.T) bool {
		defer func() {
			if p := recover(); p == found {
				hit = true
			} else if p != nil {
				panic(p)
			}
		}()
		check(t)
		return true
	})
	for seed := 0; seed < 3000 && !hit; seed++ {
		one.Example(seed)
	}
	return hit
}

func compileLoosely(expr string) *Filter {
	f, err := Compile(expr)
	if err != nil {
		panic(err)
	}
	return f
}

func TestPeekReadsWhatJSONSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		spelled := string(peek.AppendString(nil, text))
		var want string
		if err := json.Unmarshal([]byte(spelled), &want); err != nil {
			t.Fatalf("%s: %v", spelled, err)
		}
		if got := peek.Text(spelled); got != want || want != strings.ToValidUTF8(text, "\ufffd") {
			t.Fatalf("%q became %s, read as %q", text, spelled, got)
		}
	})
}

func BenchmarkMatches(b *testing.B) {
	r := allowed()
	raw, _ := json.Marshal(r)
	for _, expr := range []string{`app == "payroll" && effect != "deny" && time >= "2026-11-01"`, `user == "alice@corp.example" && "admins" in groups`,
		`groups.exists(g, g.startsWith("adm"))`} {
		f := compile(b, expr)
		b.Run("record/"+expr, func(b *testing.B) {
			for b.Loop() {
				f.Matches(r)
			}
		})
		b.Run("raw/"+expr, func(b *testing.B) {
			for b.Loop() {
				f.MatchesRaw(raw)
			}
		})
	}
}
