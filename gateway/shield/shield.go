// Package shield inspects requests with the OWASP Core Rule Set, by Coraza. It produces findings, never verdicts: what
// follows from them is for the policy to say.
//
// An [Inspector] is a compiled rule set. It takes about 1 ms for an ordinary request and can take seconds for one that is
// made for that, and nothing can interrupt it. [Shield] therefore bounds how many are inspected at a time, in all, for
// strangers together and for one client, and how long anybody waits for it.
//
// The package writes nothing anywhere and logs nothing of what it saw.
package shield

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Shield shares the machine among inspections. All methods are safe for concurrent use.
type Shield struct {
	mu      sync.Mutex
	set     Config
	running counts
	waiting counts
	clients map[Client]*client // those who have an inspection running or waiting
	turns   []*client          // those who wait, in the order of their turns
	stats   Stats              // without running and waiting
}

// Client is whose inspections share places: one person, or one address where nobody is signed in.
type Client struct {
	Name     string
	Stranger bool // nobody is signed in
}

// client is what a client has under way.
type client struct {
	stranger bool
	running  int
	waiting  []*turn
}

// counts are of all clients, and of the strangers among them.
type counts struct{ all, strangers int }

func (n *counts) add(c *client, by int) {
	n.all += by
	if c.stranger {
		n.strangers += by
	}
}

// turn is one request's place in the queue.
type turn struct {
	ready   chan struct{}
	granted bool
}

// New makes a Shield. What is zero in the settings is their default.
func New(cfg Config) *Shield {
	return &Shield{set: cfg.orDefaults(), clients: map[Client]*client{}}
}

// Configure changes the bounds. What runs and waits goes on.
func (s *Shield) Configure(cfg Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = cfg.orDefaults()
	s.grantLocked()
}

// Stats is what a Shield is doing.
type Stats struct {
	Running   int    // inspections
	Abandoned int    // of those: nobody waits for them any more
	Waiting   int    // requests that wait for their turn
	Waited    uint64 // requests that had to, since the start
	Panics    uint64 // inspections that failed, since the start: a bug in the rule engine
}

// Stats reports what is going on.
func (s *Shield) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Running, st.Waiting = s.running.all, s.waiting.all
	return st
}

// Inspect has a request of a client looked at, when it is the client's turn. Load gives the request, in this goroutine,
// once it is: so much that waits holds no bodies. It returns when the findings are there or the time is over, with
// Timeout set; an inspection that goes on keeps its place until it ends.
func (s *Shield) Inspect(i *Inspector, client Client, load func() (*Request, error)) (Findings, error) {
	return s.run(client, load, i.Inspect)
}

func (s *Shield) run(who Client, load func() (*Request, error), inspect func(*Request) Findings) (Findings, error) {
	deadline := time.NewTimer(s.timeout())
	defer deadline.Stop()
	if !s.enter(who, deadline.C) {
		return Findings{Body: None, Timeout: true}, nil
	}
	q, err := load()
	if err != nil {
		s.leave(who, nil)
		return Findings{}, err
	}
	job := &job{done: make(chan Findings, 1)}
	go func() {
		found, err := guarded(inspect, q)
		if err != nil {
			s.panicked()
		}
		s.leave(who, job)
		job.done <- found
	}()
	select {
	case found := <-job.done:
		return found, nil
	case <-deadline.C:
	}
	if s.abandon(job) {
		return Findings{Body: None, Timeout: true}, nil
	}
	return <-job.done, nil // it ended at the last moment
}

// job is one inspection, which ends, or is abandoned and ends later.
type job struct {
	done         chan Findings
	ended, alone bool // guarded by Shield.mu
}

// guarded is an inspection that panics only here: what it would have found nobody knows, as after a timeout.
func guarded(inspect func(*Request) Findings, q *Request) (found Findings, err error) {
	defer func() {
		if p := recover(); p != nil {
			found, err = Findings{Body: None, Timeout: true}, fmt.Errorf("inspection panicked: %v", p)
		}
	}()
	return inspect(q), nil
}

func (s *Shield) timeout() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Timeout
}

func (s *Shield) panicked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Panics++
}

// abandon notes that nobody waits for a job any more, unless it has ended.
func (s *Shield) abandon(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.ended {
		return false
	}
	j.alone = true
	s.stats.Abandoned++
	return true
}

// leave gives a client's place back.
func (s *Shield) leave(who Client, j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j != nil {
		if j.ended = true; j.alone {
			s.stats.Abandoned--
		}
	}
	s.leaveLocked(who)
}

// enter takes a place for a client, and waits for it until the time is over.
func (s *Shield) enter(who Client, over <-chan time.Time) bool {
	t, entered := s.queue(who)
	if t == nil {
		return entered
	}
	select {
	case <-t.ready:
		return true
	case <-over:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.granted {
		s.leaveLocked(who)
	} else {
		s.withdrawLocked(who, t)
	}
	return false
}

// queue takes a free place, or a turn in the queue where there is room.
func (s *Shield) queue(who Client) (t *turn, entered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[who]
	if c == nil {
		c = &client{stranger: who.Stranger}
		s.clients[who] = c
	}
	switch {
	case len(c.waiting) == 0 && s.placeLocked(c):
		s.running.add(c, 1)
		c.running++
		return nil, true
	case !s.roomLocked(c):
		s.forgetLocked(who)
		return nil, false
	}
	t = &turn{ready: make(chan struct{})}
	if c.waiting = append(c.waiting, t); len(c.waiting) == 1 {
		s.turns = append(s.turns, c)
	}
	s.waiting.add(c, 1)
	s.stats.Waited++
	return t, false
}

// placeLocked reports whether one more inspection of a client may run.
func (s *Shield) placeLocked(c *client) bool {
	if c.stranger && (s.running.strangers >= s.set.strangers() || c.running >= s.set.perStranger()) {
		return false
	}
	return s.running.all < s.set.Concurrency && c.running < s.set.PerClient
}

// roomLocked reports whether one more request of a client may wait. Strangers fill no more than half of the room, so that
// there is some for people.
func (s *Shield) roomLocked(c *client) bool {
	if c.stranger && s.waiting.strangers >= s.set.Waiting/2 {
		return false
	}
	return s.waiting.all < s.set.Waiting && len(c.waiting) < s.set.Waiting/4
}

func (s *Shield) leaveLocked(who Client) {
	c := s.clients[who]
	s.running.add(c, -1)
	c.running--
	s.forgetLocked(who)
	s.grantLocked()
}

// withdrawLocked takes a turn out of the queue that came too late.
func (s *Shield) withdrawLocked(who Client, t *turn) {
	c := s.clients[who]
	c.waiting = slices.DeleteFunc(c.waiting, func(other *turn) bool { return other == t })
	s.waiting.add(c, -1)
	if len(c.waiting) == 0 {
		s.turns = slices.DeleteFunc(s.turns, func(other *client) bool { return other == c })
	}
	s.forgetLocked(who)
}

// forgetLocked drops a client of whom nothing is left.
func (s *Shield) forgetLocked(who Client) {
	if c := s.clients[who]; c.running == 0 && len(c.waiting) == 0 {
		delete(s.clients, who)
	}
}

// grantLocked gives free places to those who wait, one each in turn; who has their share of places is passed over.
func (s *Shield) grantLocked() {
	for s.running.all < s.set.Concurrency {
		next := slices.IndexFunc(s.turns, s.placeLocked)
		if next < 0 {
			return
		}
		c := s.turns[next]
		t := c.waiting[0]
		c.waiting = c.waiting[1:]
		s.turns = slices.Delete(s.turns, next, next+1)
		if len(c.waiting) > 0 {
			s.turns = append(s.turns, c)
		}
		s.waiting.add(c, -1)
		s.running.add(c, 1)
		c.running++
		t.granted = true
		close(t.ready)
	}
}
