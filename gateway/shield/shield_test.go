package shield

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func load() (*Request, error) { return &Request{}, nil }

// One client whose inspections never end cannot keep others from theirs: it has its share of the places, and all the
// others' requests are inspected in the rest.
func TestOneClientCannotStarveOthers(t *testing.T) {
	for _, row := range []struct {
		name    string
		share   int
		starved bool
	}{{"with a share", 2, false}, {"mutant: one client may have all", 4, true}} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Timeout: time.Second, Concurrency: 4, PerClient: 2, Waiting: 64})
			s.set.PerClient = row.share
			endless := make(chan struct{})
			var clients sync.WaitGroup
			var timeouts, others atomic.Int64
			for range 30 {
				clients.Go(func() { s.run(Client{Name: "mallory"}, load, func(*Request) Findings { <-endless; return Findings{} }) })
			}
			synctest.Wait()
			for n := range 100 {
				clients.Go(func() {
					found, err := s.run(Client{Name: fmt.Sprint("person ", n%10)}, load, func(*Request) Findings { time.Sleep(time.Millisecond); return Findings{} })
					if others.Add(1); found.Timeout || err != nil {
						timeouts.Add(1)
					}
				})
				if n%10 == 9 {
					time.Sleep(10 * time.Millisecond)
				}
			}
			time.Sleep(2 * time.Second)
			if starved := timeouts.Load() > 0; starved != row.starved || others.Load() != 100 {
				t.Errorf("%s: %d of %d requests of others were not inspected", row.name, timeouts.Load(), others.Load())
			}
			if st := s.Stats(); st.Running != row.share || st.Abandoned != row.share || st.Waiting != 0 {
				t.Errorf("%s: %+v, want %d abandoned and nothing else", row.name, st, row.share)
			}
			close(endless)
			clients.Wait()
			synctest.Wait()
			if st := s.Stats(); st.Running != 0 || st.Abandoned != 0 || len(s.clients) != 0 {
				t.Errorf("%s: %+v and %d clients are left", row.name, st, len(s.clients))
			}
		})
	}
}

// Strangers whose inspections never end, however many they are, keep no place and no room from people, not even where one
// person has all that a person may.
func TestStrangersTakeNothingFromPeople(t *testing.T) {
	for concurrency := 2; concurrency <= 9; concurrency++ {
		for _, insider := range []bool{false, true} {
			if insider && concurrency == 2 {
				continue // one place for strangers, and one for people
			}
			if lost := lostToStrangers(t, concurrency, insider, true); lost > 0 {
				t.Errorf("%d places, an insider %v: %d of 100 requests of people were not inspected", concurrency, insider, lost)
			}
			if lostToStrangers(t, concurrency, insider, false) == 0 {
				t.Errorf("%d places, an insider %v: the mutant to which strangers are people was not noticed", concurrency, insider)
			}
		}
	}
}

// lostToStrangers is how many of a hundred requests of people are not inspected while strangers ask for as much as they can.
func lostToStrangers(t *testing.T, concurrency int, insider, known bool) (lost int) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Timeout: time.Second, Concurrency: concurrency, Waiting: 64})
		endless := make(chan struct{})
		var all sync.WaitGroup
		ask := func(who Client, inspect func(*Request) Findings) (found Findings) {
			found, err := s.run(who, load, inspect)
			if err != nil {
				t.Error(err)
			}
			return found
		}
		for n := range 100 {
			all.Go(func() {
				ask(Client{fmt.Sprint("address ", n), known}, func(*Request) Findings { <-endless; return Findings{} })
			})
		}
		if synctest.Wait(); insider {
			for range 30 {
				all.Go(func() { ask(Client{Name: "mallory"}, func(*Request) Findings { <-endless; return Findings{} }) })
			}
			synctest.Wait()
		}
		if st := s.Stats(); known && (st.Running == 0 || st.Running >= concurrency) {
			t.Errorf("%d of %d places are taken, want some and not all", st.Running, concurrency)
		}
		for n := range 100 {
			if found := ask(Client{Name: fmt.Sprint("person ", n)}, func(*Request) Findings { return Findings{} }); found.Timeout {
				lost++
			}
		}
		close(endless)
		all.Wait()
		synctest.Wait()
		if s.running != (counts{}) || s.waiting != (counts{}) || len(s.clients) != 0 || len(s.turns) != 0 {
			t.Errorf("%+v running, %+v waiting, %d clients and %d turns are left", s.running, s.waiting, len(s.clients), len(s.turns))
		}
	})
	return lost
}

// Places go round among those who wait, however many requests one of them has.
func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Timeout: time.Minute, Concurrency: 2, PerClient: 1, Waiting: 64})
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		ask := func(who string) {
			all.Go(func() {
				s.run(Client{Name: who}, load, func(*Request) Findings {
					mu.Lock()
					order = append(order, who)
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					return Findings{}
				})
			})
		}
		for range 6 {
			ask("many")
		}
		synctest.Wait()
		ask("a")
		ask("b")
		ask("c")
		all.Wait()
		if got := strings.Join(order[:5], " "); strings.Count(got, "many") > 3 {
			t.Errorf("the order is %v", order)
		}
		if st := s.Stats(); st.Waited == 0 {
			t.Errorf("%+v", st)
		}
	})
}

// The room in which requests wait is bounded, for each client and in all; what finds no room is told at once.
func TestWaitingRoomIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Timeout: time.Minute, Concurrency: 2, PerClient: 1, Waiting: 8})
		endless := make(chan struct{})
		var all sync.WaitGroup
		var refused atomic.Int64
		ask := func(who string) {
			all.Go(func() {
				if found, _ := s.run(Client{Name: who}, load, func(*Request) Findings { <-endless; return Findings{} }); found.Timeout {
					refused.Add(1)
				}
			})
		}
		for range 10 { // one runs, two wait
			ask("mallory")
		}
		synctest.Wait()
		if n := refused.Load(); n != 7 {
			t.Errorf("%d of one client's 10 were turned away, want 7", n)
		}
		for n := range 20 { // one runs, six wait
			ask(fmt.Sprint("person ", n))
		}
		synctest.Wait()
		if n := refused.Load(); n != 7+13 {
			t.Errorf("%d were turned away, want 20", n)
		}
		close(endless)
		all.Wait()
		if st := s.Stats(); st.Running != 0 || st.Waiting != 0 || len(s.clients) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// The wait for a turn is part of the time, and ends with it.
func TestWaitingCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Timeout: time.Second, Concurrency: 2, PerClient: 1, Waiting: 8})
		slow := func(*Request) Findings { time.Sleep(10 * time.Second); return Findings{} }
		var all sync.WaitGroup
		began := time.Now()
		for range 3 {
			all.Go(func() {
				if found, _ := s.run(Client{Name: "ada"}, load, slow); !found.Timeout || time.Since(began) != time.Second {
					t.Errorf("%+v after %v, want a timeout after 1s", found, time.Since(began))
				}
			})
		}
		all.Wait()
		if st := s.Stats(); st.Running != 1 || st.Abandoned != 1 {
			t.Errorf("%+v, want one abandoned inspection in its place", st)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Running != 0 || st.Abandoned != 0 {
			t.Errorf("later: %+v", st)
		}
	})
}

// An inspection that panics is like one that takes too long, and a request that cannot be loaded leaves its place.
func TestFailuresLeaveTheirPlace(t *testing.T) {
	s := New(Config{})
	if found, err := s.run(Client{Name: "ada"}, load, func(*Request) Findings { panic("bug") }); !found.Timeout || err != nil {
		t.Errorf("a panic: %+v, %v", found, err)
	}
	gone := errors.New("gone")
	if _, err := s.run(Client{Name: "ada"}, func() (*Request, error) { return nil, gone }, nil); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if st := s.Stats(); st.Running != 0 || st.Panics != 1 || len(s.clients) != 0 {
		t.Errorf("%+v", st)
	}
}

// Many at once, with the real rules: the findings are each request's own, and exclusions of one do not leak into another.
func TestInspectionsAtOnceAreIndependent(t *testing.T) {
	rules := testRules
	rules.Exclude = []Exclusion{{Rules: []string{"942000-942999"}, Arguments: []string{"text"}, Paths: []string{"/sql/"}}}
	i := compiled(t, rules)
	s := New(Config{Timeout: time.Minute, Concurrency: 4, PerClient: 3})
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for k := range 10 {
				path, want := "/sql/x", false
				if (n+k)%2 == 0 {
					path, want = "/x", true
				}
				q := ordinary("GET", path+"?text=1%27%20OR%20%271%27=%271%27%20--%20", "", "")
				found, err := s.Inspect(i, Client{Name: fmt.Sprint(n)}, func() (*Request, error) { return q, nil })
				if err != nil || found.Timeout || (found.Score >= 5) != want {
					t.Errorf("%s: %+v, %v", path, found, err)
				}
			}
		})
	}
	all.Wait()
}

// The longest inspections that limits admit, of one client, leave the others theirs.
func TestWorstBodiesStarveNobody(t *testing.T) {
	i := compiled(t, testRules)
	s := New(Config{Timeout: time.Minute, Concurrency: 2, PerClient: 1})
	worst := func() (*Request, error) { return worstCase(), nil }
	stop := make(chan struct{})
	var attackers sync.WaitGroup
	for range 4 {
		attackers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.Inspect(i, Client{Name: "mallory"}, worst)
				}
			}
		})
	}
	for n := range 20 {
		found, err := s.Inspect(i, Client{Name: "ada"}, func() (*Request, error) { return ordinary("GET", "/page", "", ""), nil })
		if err != nil || found.Timeout || found.Score != 0 {
			t.Errorf("request %d: %+v, %v", n, found, err)
		}
	}
	close(stop)
	attackers.Wait()
}

// worstCase is a body that takes the rules long, within all limits.
func worstCase() *Request {
	piece := "select' or--/*<a href=;cat../"
	var b strings.Builder
	b.WriteString("{")
	for n := range testRules.Arguments {
		if n > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"key%d":"%s"`, n, strings.Repeat(piece, 230/len(piece)))
	}
	b.WriteString("}")
	return ordinary("POST", "/", "application/json", b.String())
}
