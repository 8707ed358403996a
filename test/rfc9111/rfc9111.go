// Package rfc9111 holds a shared HTTP cache against RFC 9111 and the documents around it, from outside: a client asks,
// an app that it controls answers, and what each of them saw tells what the cache in between did.
//
// The cases are scripts in the folder cases, one file per topic, each case citing the clause it is about; script.go says
// how they are written. A case is one of three kinds, as in the public cache test suite (cache-tests.fyi), whose topics
// the files follow: what is required of a cache, what a good one may do, and what is only looked at.
//
//	score := rfc9111.Run(t, front, origin)
//
// plays all of them at once, each on URLs of its own, through a [Front] that somebody else has put before the [Origin].
// The package knows nothing of gateways; who may see whose entries is told by the cases of identity.txt, which ask as
// several people.
package rfc9111

import (
	"context"
	"embed"
	"fmt"
	"net/http"
	"path"
	"sync"
	"testing"
)

// Front is the cache under test as its clients reach it.
type Front interface {
	// Send asks an app as a person; "nobody" is a client without a session. The request's URL has path and query only.
	// Redirects are not followed, bodies not decoded. It may be called from several goroutines.
	Send(person, app string, r *http.Request) (*http.Response, error)
	// Base is an app's public origin, such as https://wiki.corp.test:8443.
	Base(app string) string
}

// Kind says what failing a case means.
type Kind string

const (
	Required Kind = "required" // a cache that fails it breaks the protocol
	Optional Kind = "optional" // a cache that passes it is a better cache
	Check    Kind = "check"    // either is right; the case says what we expect of ours
)

// Case is one story of a client, a cache and an app.
type Case struct {
	Name, Clause string
	Kind         Kind
	Steps        []Step
	Where        string // file and line
}

// Result is what became of a case.
type Result struct {
	Case
	Missed []string // expectations that were not met
	Wrong  []string // what no cache may do, whatever the case is about: bodies that are nobody's
}

// Passed holds when nothing was missed and nothing wrong.
func (r Result) Passed() bool { return len(r.Missed)+len(r.Wrong) == 0 }

// Score counts the cases of each kind that were played and passed.
type Score struct {
	Played, Passed map[Kind]int
	Results        []Result
}

//go:embed cases
var files embed.FS

// Cases are all cases, in the order of the files. It fails the test when one cannot be read.
func Cases(t testing.TB) (all []Case) {
	t.Helper()
	entries, err := files.ReadDir("cases")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := files.ReadFile(path.Join("cases", entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		cases, err := parse(entry.Name(), string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cases...)
	}
	return all
}

// atOnce bounds how many cases are played at the same time: most of a case is waiting.
const atOnce = 48

// Play plays cases, all at once, and returns their results in the same order.
func Play(ctx context.Context, front Front, origin *Origin, cases []Case) []Result {
	results := make([]Result, len(cases))
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, c := range cases {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			results[i] = play(ctx, front, origin, c)
			// URLs share the slots of invalidation, so a case may lose what it stored to another's unsafe request, once in a
			// few thousand times. Under another URL it does not again; what was wrong is not asked again.
			if r := &results[i]; r.Kind == Required && len(r.Wrong) == 0 && !r.Passed() {
				*r = play(ctx, front, origin, c)
			}
		})
	}
	group.Wait()
	return results
}

// Run plays cases and reports each as a subtest: a required case that is missed fails, the others say what they missed.
func Run(t *testing.T, front Front, origin *Origin, cases []Case) Score {
	t.Helper()
	score := Score{Played: map[Kind]int{}, Passed: map[Kind]int{}, Results: Play(t.Context(), front, origin, cases)}
	for _, r := range score.Results {
		score.Played[r.Kind]++
		if r.Passed() {
			score.Passed[r.Kind]++
		}
		t.Run(r.Where+" "+r.Name, func(t *testing.T) { r.report(t) })
	}
	return score
}

func (r Result) report(t *testing.T) {
	for _, wrong := range r.Wrong {
		t.Errorf("wrong: %s", wrong)
	}
	for _, missed := range r.Missed {
		if r.Kind == Required {
			t.Errorf("%s: %s", r.Clause, missed)
		} else {
			t.Logf("%s (%s): %s", r.Clause, r.Kind, missed)
		}
	}
}

// String is one line per kind.
func (s Score) String() string {
	return fmt.Sprintf("required %d of %d, optional %d of %d, checks as expected %d of %d",
		s.Passed[Required], s.Played[Required], s.Passed[Optional], s.Played[Optional], s.Passed[Check], s.Played[Check])
}
