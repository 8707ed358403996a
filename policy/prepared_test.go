package policy

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// withPrepared is the input with its subject prepared.
func withPrepared(in *Input) *Input {
	c := *in
	c.Subject = c.Subject.Prepared()
	return &c
}

// Preparing a subject changes nothing but the time it takes: bounds, recorded bytes and what is evaluated are the same.
func TestPreparedSubjectsAreTheSame(t *testing.T) {
	r := random(t)
	for i := range rounds(2000) {
		plain := randomInput(r, "wiki", "payroll")
		if i%2 == 0 {
			plain = wildInput(r)
		}
		if i%8 == 0 {
			plain.Subject.Groups = slices.Repeat([]string{"a group of some length"}, r.IntN(2*MaxGroups))
			plain.Subject.Grants = slices.Repeat([]Grant{{ID: "a grant"}}, r.IntN(100))
		}
		if i%16 == 0 {
			plain.Subject.Email = string(bytes.Repeat([]byte("a"), r.IntN(2*maxWord)))
			plain.Subject.Cert = &Cert{Subject: string(bytes.Repeat([]byte("a"), r.IntN(2*maxSmall)))}
		}
		ready := withPrepared(plain)
		errPlain, errReady := plain.Bound(), ready.Bound()
		if tooLarge, is := errors.AsType[*TooLargeError](errPlain); is {
			if other, same := errors.AsType[*TooLargeError](errReady); !same || *other != *tooLarge {
				t.Fatalf("bounding a prepared subject: %v, want %v", errReady, errPlain)
			}
			continue
		}
		if errPlain != nil || errReady != nil {
			t.Fatal(errPlain, errReady)
		}
		if ready.Subject.ready() == nil {
			t.Fatalf("was not prepared: %s", plain.AppendJSON(nil))
		}
		if got, want := ready.AppendJSON(nil), plain.AppendJSON(nil); !bytes.Equal(got, want) {
			t.Fatalf("recorded as %s, want %s", got, want)
		}
		if ready.term().Value.Compare(plain.term().Value) != 0 {
			t.Fatalf("evaluated as %v, want %v", ready.term(), plain.term())
		}
	}
}

// Prepared subjects agree in a projection exactly if the plain ones do, and are never taken for plain ones.
func TestPreparedSubjectsProjectAlike(t *testing.T) {
	r := random(t)
	for range rounds(2000) {
		a, b := randomInput(r, "wiki"), randomInput(r, "wiki")
		list := []field{field(r.IntN(int(fields))), fieldGroups}
		same := bytes.Equal(a.project(nil, list), b.project(nil, list))
		if got := bytes.Equal(withPrepared(a).project(nil, list), withPrepared(b).project(nil, list)); got != same {
			t.Fatalf("%v: prepared, projections are equal: %t, want %t", list, got, same)
		}
		if bytes.Equal(withPrepared(a).project(nil, list), b.project(nil, list)) {
			t.Fatalf("%v: a prepared subject has the projection of one that is not", list)
		}
	}
}

// POL: what is recorded is what was evaluated, even when somebody changes a subject that was prepared.
func TestChangedSubjectIsNotPrepared(t *testing.T) {
	other := Subject{Groups: []string{"staff"}, Grants: []Grant{{ID: "x"}}}
	for name, change := range map[string]func(*Subject){
		"type":              func(s *Subject) { s.Type = TypeService },
		"id":                func(s *Subject) { s.ID = "corp|mallory" },
		"email":             func(s *Subject) { s.Email = "mallory@corp.example" },
		"email_verified":    func(s *Subject) { s.EmailVerified = !s.EmailVerified },
		"groups":            func(s *Subject) { s.Groups = other.Groups },
		"fewer groups":      func(s *Subject) { s.Groups = s.Groups[:1] },
		"no groups":         func(s *Subject) { s.Groups = nil },
		"groups_incomplete": func(s *Subject) { s.GroupsIncomplete = true },
		"claims":            func(s *Subject) { s.Claims = maps.Clone(s.Claims) },
		"authn":             func(s *Subject) { s.Authn = &Authn{} },
		"session":           func(s *Subject) { s.Session = nil },
		"device":            func(s *Subject) { s.Device = &Device{ID: "d"} },
		"cert":              func(s *Subject) { s.Cert = &Cert{} },
		"grants":            func(s *Subject) { s.Grants = other.Grants },
	} {
		in := withPrepared(employee("app-05"))
		in.Subject.Claims["a"] = 1 // not nil
		in.Subject = in.Subject.Prepared()
		if in.Subject.ready() == nil {
			t.Fatal("was not prepared")
		}
		change(&in.Subject)
		plain := *in
		plain.Subject.prepared = nil
		if !bytes.Equal(in.AppendJSON(nil), plain.AppendJSON(nil)) || in.Subject.ready() != nil {
			t.Errorf("after a change of %s the record says %s", name, in.AppendJSON(nil))
		}
	}
}

// BenchmarkRequest is what a gateway does with the policy for one request of a session in use.
func BenchmarkRequest(b *testing.B) {
	e := newEngine(b, Config{Memo: true}, company(), nil)
	for _, c := range []struct {
		name string
		in   *Input
	}{{"plain", employee("app-05")}, {"prepared", withPrepared(employee("app-05"))}} {
		wantAllowed(b, e, c.in)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var record []byte
			for b.Loop() {
				c.in.Context.SetTime(monday, time.UTC)
				if err := c.in.Bound(); err != nil {
					b.Fatal(err)
				}
				record = c.in.AppendJSON(record[:0])
				e.Decide(b.Context(), c.in)
			}
		})
	}
}

// TestPreparedIsEvaluatedAtOnce: requests of one prepared subject are evaluated side by side, the first ones too.
func TestPreparedIsEvaluatedAtOnce(t *testing.T) {
	e := newEngine(t, Config{}, company(), nil)
	for range rounds(20) {
		subject := employee("app-05").Subject.Prepared()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				in := employee("app-05")
				in.Subject = subject
				if v := e.Decide(t.Context(), in); !v.Allow {
					t.Errorf("got %s", v.JSON)
				}
			})
		}
		wg.Wait()
	}
}
