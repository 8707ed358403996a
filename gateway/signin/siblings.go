package signin

import (
	"errors"
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// siblings are tabs of one browser that come back from the provider at the same moment: none of them holds the session
// cookie that another one is just given. What tells them apart from other browsers is that each still holds the sealed flow
// cookies of all. They share the session of the first, so that signing out ends all of it. Tabs that come back to different
// processes may get a session each.
type siblings struct {
	seed   maphash.Seed
	people [64]sync.Mutex // one of them is held while the session of a person is looked for and made

	mu   sync.Mutex
	made map[string]madeSession // by the id of the flow that made it
}

type madeSession struct {
	session string
	at      time.Time
}

// maxSiblings bounds what is remembered; beyond it tabs get a session each.
const maxSiblings = 4096

func newSiblings() *siblings {
	return &siblings{seed: maphash.MakeSeed(), made: map[string]madeSession{}}
}

// hold waits until no other sign-in of a person is about to make a session.
func (b *siblings) hold(person string) (release func()) {
	mu := &b.people[maphash.String(b.seed, person)%uint64(len(b.people))]
	mu.Lock()
	return mu.Unlock
}

func (b *siblings) add(flow, session string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, m := range b.made {
		if now.Sub(m.at) > attemptTime {
			delete(b.made, id)
		}
	}
	if len(b.made) < maxSiblings {
		b.made[flow] = madeSession{session, now}
	}
}

func (b *siblings) of(flow string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.made[flow].session
}

// otherFlows are the ids of the sign-ins that this browser began besides one.
func (h *Handler) otherFlows(r *http.Request, a *attempt) []string {
	var ids []string
	for _, c := range r.Cookies() {
		id, ours := strings.CutPrefix(c.Name, flowCookie)
		if !ours || id == a.ID || len(ids) == maxAttempts {
			continue
		}
		if other := h.openFlow(c.Value); other != nil && other.ID == id {
			ids = append(ids, id)
		}
	}
	return ids
}

// sibling is the session that another tab of this browser was just given for the same account; nil when there is none.
func (h *Handler) sibling(r *http.Request, others []string, result *oidc.Result) (*session.Session, error) {
	for _, flow := range others {
		id := h.siblings.of(flow)
		if id == "" {
			continue
		}
		s, err := h.sessions.Current(r.Context(), id)
		if errors.Is(err, session.ErrNoSession) {
			continue
		}
		if err != nil {
			return nil, h.sessionsDown(err)
		}
		if sameAccount(s, result) {
			return s, nil
		}
	}
	return nil, nil
}
