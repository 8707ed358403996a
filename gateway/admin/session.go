package admin

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"sallyport/authn/session"
)

// Session is one sign-in session as operators see it: who, since when, from where. No handle leads back to it.
type Session struct {
	ID       string    `json:"id"`
	Subject  string    `json:"subject"` // provider|subject
	Provider string    `json:"provider"`
	Email    string    `json:"email,omitzero"`
	Name     string    `json:"name,omitzero"`
	Groups   []string  `json:"groups"`
	Created  time.Time `json:"created"`
	Seen     time.Time `json:"seen"`
	Checked  time.Time `json:"checked,omitzero"` // when the provider last spoke of the person
	Raised   time.Time `json:"raised,omitzero"`  // when the person last passed by the provider

	Hosts []string `json:"hosts,omitzero"` // the app hosts that it was used on; only in lists
	Apps  []string `json:"apps,omitzero"`  // the apps on those hosts

	Address         string        `json:"address,omitzero"`
	UserAgent       string        `json:"user_agent,omitzero"`
	Bound           session.Bound `json:"bound,omitzero"` // what the browser was at sign-in
	ProviderSession string        `json:"provider_session,omitzero"`
	Refreshable     bool          `json:"refreshable"` // there is a refresh token
}

func sessionsFrom(found []session.Session) []Session {
	all := make([]Session, 0, len(found))
	for _, s := range found {
		all = append(all, Session{
			ID: s.ID, Subject: s.Identity.ID(), Provider: s.Identity.Provider, Email: s.Identity.Email, Name: s.Identity.Name,
			Groups: append([]string{}, s.Identity.Groups...), Created: s.Created, Seen: s.Seen, Checked: s.Checked, Raised: s.Raised,
			Address: s.Address, UserAgent: s.UserAgent, Bound: s.Bound, ProviderSession: s.ProviderSession, Refreshable: s.Refreshable,
		})
	}
	return all
}

// listed is sessionsFrom for a list, which knows what each session was used for.
func listed(found []session.Session, hosts map[string]string) []Session {
	all := sessionsFrom(found)
	on := make(map[string][]string)
	for _, app := range slices.Sorted(maps.Keys(hosts)) {
		on[hosts[app]] = append(on[hosts[app]], app)
	}
	for i, s := range found {
		all[i].Hosts, all[i].Apps = append([]string{}, s.Hosts...), []string{}
		for _, host := range s.Hosts {
			all[i].Apps = append(all[i].Apps, on[host]...)
		}
	}
	return all
}

// Filter selects sessions; what is set must all hold. See session.Filter.
type Filter struct {
	ID              string `json:"id,omitzero"`
	Subject         string `json:"subject,omitzero"`
	Email           string `json:"email,omitzero"`
	Provider        string `json:"provider,omitzero"`
	ProviderSession string `json:"provider_session,omitzero"`
	App             string `json:"app,omitzero"` // stands for its host
	Host            string `json:"host,omitzero"`
	OlderThan       int64  `json:"older_than_s,omitzero"` // whole seconds
	IdleFor         int64  `json:"idle_for_s,omitzero"`   // whole seconds
	All             bool   `json:"all,omitzero"`
}

// errFilter: the filter cannot be meant.
var errFilter = errors.New("filter")

// session is the filter for the keeper. An app that is not in hosts (by name) is ErrUnknown.
func (f Filter) session(hosts map[string]string) (session.Filter, error) {
	if f.OlderThan < 0 || f.IdleFor < 0 || max(f.OlderThan, f.IdleFor) > int64(maxAge/time.Second) {
		return session.Filter{}, fmt.Errorf("%w: times are from 0 to %v", errFilter, maxAge)
	}
	if f.App != "" {
		host, known := hosts[f.App]
		if !known {
			return session.Filter{}, fmt.Errorf("%w app %q", ErrUnknown, f.App)
		}
		if f.Host != "" && f.Host != host {
			return session.Filter{}, fmt.Errorf("%w: app %q is on host %s", errFilter, f.App, host)
		}
		f.Host = host
	}
	return session.Filter{
		ID: f.ID, Subject: f.Subject, Email: f.Email, Provider: f.Provider, ProviderSession: f.ProviderSession, Host: f.Host,
		OlderThan: time.Duration(f.OlderThan) * time.Second, IdleFor: time.Duration(f.IdleFor) * time.Second, All: f.All,
	}, nil
}

// maxAge bounds what a filter asks for, so that no time overflows.
const maxAge = 100 * 365 * 24 * time.Hour

// texts and times are the fields of a filter as parameters of a list, which has no use for All.
func (f *Filter) texts() map[string]*string {
	return map[string]*string{"id": &f.ID, "subject": &f.Subject, "email": &f.Email, "provider": &f.Provider,
		"provider_session": &f.ProviderSession, "app": &f.App, "host": &f.Host}
}

func (f *Filter) times() map[string]*int64 {
	return map[string]*int64{"older_than_s": &f.OlderThan, "idle_for_s": &f.IdleFor}
}

func (f Filter) query() url.Values {
	q := url.Values{}
	for name, value := range f.texts() {
		if *value != "" {
			q.Set(name, *value)
		}
	}
	for name, value := range f.times() {
		if *value != 0 {
			q.Set(name, strconv.FormatInt(*value, 10))
		}
	}
	return q
}

func filterFromQuery(q url.Values) (f Filter, err error) {
	texts, times := f.texts(), f.times()
	for name, values := range q {
		text, seconds := texts[name], times[name]
		switch {
		case len(values) != 1 || text == nil && seconds == nil:
			return Filter{}, fmt.Errorf("unknown or repeated parameter %q", name)
		case text != nil:
			*text = values[0]
		default:
			if *seconds, err = strconv.ParseInt(values[0], 10, 64); err != nil {
				return Filter{}, fmt.Errorf("%s: %q is no number of seconds", name, values[0])
			}
		}
	}
	return f, nil
}
