package admin

import (
	"fmt"
	"net/url"
	"time"

	"sallyport/authn/session"
)

// Session is one sign-in session as operators see it: who, since when, from where. No handle leads back to it.
type Session struct {
	ID        string    `json:"id"`
	Subject   string    `json:"subject"` // provider|subject
	Email     string    `json:"email,omitzero"`
	Name      string    `json:"name,omitzero"`
	Groups    []string  `json:"groups"`
	Created   time.Time `json:"created"`
	Seen      time.Time `json:"seen"`
	Address   string    `json:"address,omitzero"`
	UserAgent string    `json:"user_agent,omitzero"`
}

func sessionsFrom(found []session.Session) []Session {
	all := make([]Session, 0, len(found))
	for _, s := range found {
		all = append(all, Session{
			ID: s.ID, Subject: s.Identity.ID(), Email: s.Identity.Email, Name: s.Identity.Name,
			Groups: append([]string{}, s.Identity.Groups...), Created: s.Created, Seen: s.Seen, Address: s.Address, UserAgent: s.UserAgent,
		})
	}
	return all
}

// Filter selects sessions; what is set must all hold. See session.Filter.
type Filter struct {
	ID        string `json:"id,omitzero"`
	Subject   string `json:"subject,omitzero"`
	Email     string `json:"email,omitzero"`
	Provider  string `json:"provider,omitzero"`
	Host      string `json:"host,omitzero"`
	OlderThan int64  `json:"older_than_s,omitzero"` // whole seconds
	All       bool   `json:"all,omitzero"`
}

func (f Filter) session() session.Filter {
	return session.Filter{
		ID: f.ID, Subject: f.Subject, Email: f.Email, Provider: f.Provider, Host: f.Host,
		OlderThan: time.Duration(f.OlderThan) * time.Second, All: f.All,
	}
}

// query is the filter as the query of a list; a list has no use for All.
func (f Filter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"id": f.ID, "subject": f.Subject, "email": f.Email, "provider": f.Provider, "host": f.Host} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

func filterFromQuery(q url.Values) (Filter, error) {
	var f Filter
	fields := map[string]*string{"id": &f.ID, "subject": &f.Subject, "email": &f.Email, "provider": &f.Provider, "host": &f.Host}
	for name, values := range q {
		field := fields[name]
		if field == nil || len(values) != 1 {
			return Filter{}, fmt.Errorf("unknown or repeated parameter %q", name)
		}
		*field = values[0]
	}
	return f, nil
}
