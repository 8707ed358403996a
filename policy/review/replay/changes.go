package replay

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
)

// changes are the differences, by what they are told apart by.
type changes struct {
	mu    sync.Mutex
	known map[string]*changed
	left  int // how many more differences are listed
	cut   bool
}

func newChanges() *changes { return &changes{known: make(map[string]*changed), left: maxDifferences} }

// changed is one kind of request whose answer changed.
type changed struct {
	all      *changes
	key      string
	change   review.Change
	from, to *policy.Verdict

	mu     sync.Mutex
	people map[string]*concerned // by subject.id
}

// concerned is what one person did of it.
type concerned struct {
	review.Difference
	first  time.Time // of the request that is Input
	recent []recent  // the latest, at most maxExamples
}

// recent is a request that is an example.
type recent struct {
	at time.Time
	id string
}

func (c *changes) of(key string, change review.Change, from, to *policy.Verdict) *changed {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.known[key]
	if found == nil {
		found = &changed{all: c, key: key, change: change, from: from, to: to, people: make(map[string]*concerned)}
		c.known[key] = found
	}
	return found
}

// room takes one of the places that are left.
func (c *changes) room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		c.cut = true
		return false
	}
	c.left--
	return true
}

// add counts a request. An error says that its input cannot be read, except for what it has in common with others.
func (c *changed) add(r *Record) error {
	id := policy.RecordedSubject(r.Input)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.people[id]
	switch {
	case p == nil:
		p = &concerned{Difference: review.Difference{Change: c.change, From: c.from, To: c.to}}
		if err := p.show(r); err != nil {
			return err
		}
		if !c.all.room() {
			return nil
		}
		c.people[id] = p
	case r.Time.Before(p.first):
		if err := p.show(r); err != nil {
			return err
		}
	}
	p.Requests += r.weight()
	if r.Time.After(p.Last) {
		p.Last = r.Time
	}
	p.remember(r)
	return nil
}

// show makes a request the example: the first one, whatever order the records come in.
func (p *concerned) show(r *Record) error {
	in, err := policy.ParseInput(r.Input)
	if err != nil {
		return err
	}
	p.Input, p.first = in, r.Time
	if s := &in.Subject; s.ID != "" {
		p.People = []review.Person{{ID: s.ID, Name: s.Email}}
	}
	return nil
}

// remember keeps the latest requests' ids, the latest first.
func (p *concerned) remember(r *Record) {
	if len(p.recent) == maxExamples && !r.Time.After(p.recent[maxExamples-1].at) {
		return
	}
	p.recent = append(p.recent, recent{r.Time, r.ID})
	slices.SortFunc(p.recent, func(a, b recent) int { return cmp.Or(b.at.Compare(a.at), strings.Compare(a.id, b.id)) })
	p.recent = p.recent[:min(len(p.recent), maxExamples)]
}

// list is all differences in a fixed order, and whether there were more.
func (c *changes) list() ([]review.Difference, bool) {
	type entry struct {
		key, person string
		review.Difference
	}
	var all []entry
	for key, changed := range c.known {
		for id, p := range changed.people {
			for _, r := range p.recent {
				p.Records = append(p.Records, r.id)
			}
			all = append(all, entry{key, id, p.Difference})
		}
	}
	order := review.Changes()
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Change), slices.Index(order, b.Change)),
			strings.Compare(a.Input.Resource.ID, b.Input.Resource.ID),
			cmp.Compare(b.Requests, a.Requests),
			strings.Compare(a.person, b.person),
			strings.Compare(a.key, b.key))
	})
	list := make([]review.Difference, len(all))
	for i := range all {
		list[i] = all[i].Difference
	}
	return list, c.cut
}
