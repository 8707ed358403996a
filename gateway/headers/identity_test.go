package headers

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// anyIdentity draws identities of few words, so that many of them are alike.
func anyIdentity(rt *rapid.T, label string) (Identity, []string) {
	word := rapid.SampledFrom([]string{"", "a", "b", "a,b", "%2C", "ü", "a b"})
	words := rapid.SliceOfN(word, 0, 3)
	return Identity{User: word.Draw(rt, label+" user"), Email: word.Draw(rt, label+" email"), Groups: words.Draw(rt, label+" groups")},
		words.Draw(rt, label+" asserted")
}

// What an app is told of two people is told apart by the digest, and by nothing else: an answer kept for one of them is
// never another's, and one person's second session finds it.
func TestDigestTellsApartWhatIsTold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, assertedA := anyIdentity(rt, "a")
		b, assertedB := anyIdentity(rt, "b")
		a.Assertion, b.Assertion = "this minute's", "the next one's"
		same := a.User == b.User && a.Email == b.Email && slices.Equal(a.Groups, b.Groups) && slices.Equal(assertedA, assertedB)
		if got := Prepare(a, assertedA...).Digest() == Prepare(b, assertedB...).Digest(); got != same {
			rt.Errorf("%q %q and %q %q: same digest %t, want %t", a, assertedA, b, assertedB, got, same)
		}
	})
}

// A header that was told something may be changed by the request it belongs to, without the next one hearing of it.
func TestPreparedIsNotChangedByHeaders(t *testing.T) {
	p := Prepare(Identity{User: "corp|ada", Email: "ada@corp.example", Groups: []string{"staff", "a,b"}})
	site, peer := NewSite("wiki.corp.example", "https", 443), NewPeer(netip.MustParseAddr("192.0.2.7"))
	say := func() http.Header {
		h := http.Header{Assertion: {"left over"}, "X-Forwarded-For": {"6.6.6.6"}}
		p.Set(h, "")
		site.SetForwarded(h, peer)
		return h
	}
	first := say()
	want := http.Header{User: {"corp|ada"}, Email: {"ada@corp.example"}, Groups: {"staff,a%2Cb"}, "X-Forwarded-For": {"192.0.2.7"},
		"X-Forwarded-Host": {"wiki.corp.example"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"}}
	if !maps.EqualFunc(first, want, slices.Equal) {
		t.Errorf("said %v, want %v", first, want)
	}
	for name := range first {
		first.Add(name, "more")
		first.Set(name, "else")
	}
	if again := say(); !maps.EqualFunc(again, want, slices.Equal) {
		t.Errorf("then said %v, want %v", again, want)
	}
}

func BenchmarkIdentity(b *testing.B) {
	id := Identity{User: "corp|248289761001", Email: "ada@corp.example", Assertion: "jwt"}
	for i := range 40 {
		id.Groups = append(id.Groups, fmt.Sprintf("department-%02d-readers", i))
	}
	b.Run("set", func(b *testing.B) {
		h := http.Header{}
		b.ReportAllocs()
		for b.Loop() {
			SetIdentity(h, id)
		}
	})
	b.Run("prepared", func(b *testing.B) {
		h, p := http.Header{}, Prepare(id)
		b.ReportAllocs()
		for b.Loop() {
			p.Set(h, id.Assertion)
		}
	})
}

func BenchmarkForwarded(b *testing.B) {
	f := Forwarded{For: netip.MustParseAddr("192.0.2.7"), Host: "wiki.corp.example", Proto: "https", Port: 443}
	b.Run("set", func(b *testing.B) {
		h := http.Header{}
		b.ReportAllocs()
		for b.Loop() {
			SetForwarded(h, f)
		}
	})
	b.Run("prepared", func(b *testing.B) {
		h, site, peer := http.Header{}, NewSite(f.Host, f.Proto, f.Port), NewPeer(f.For)
		b.ReportAllocs()
		for b.Loop() {
			site.SetForwarded(h, peer)
		}
	})
}
