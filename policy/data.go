package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// configData is data.sallyport.config: what the configuration file says about the apps, in the form that the shipped Rego
// asks fastest. A field that is absent is not demanded.
type configData struct {
	Timezone string             `json:"timezone"`
	Apps     map[string]appData `json:"apps"`
}

type appData struct {
	Name        string            `json:"name"`
	Owner       string            `json:"owner"`
	Sensitivity string            `json:"sensitivity"`
	Labels      map[string]string `json:"labels"`
	Own         bool              `json:"own"` // an app package decides
	Rules       []ruleData        `json:"rules"`
	Routing     routingData       `json:"routing"`

	ShieldThreshold int  `json:"shield_threshold,omitzero"` // the score from which requests are refused
	CrossSite       bool `json:"cross_site,omitzero"`       // pages of other sites may send requests that change something
	ClientCert      bool `json:"client_cert,omitzero"`      // nobody passes without a client certificate

	Providers map[string]bool `json:"providers,omitempty"` // whose people the app is for; none: everybody's
}

type ruleData struct {
	ID       string          `json:"id"`
	Plain    bool            `json:"plain,omitzero"` // no Hours, no Networks, no StepUp
	Public   bool            `json:"public,omitzero"`
	Methods  map[string]bool `json:"methods,omitempty"`
	Paths    *pathData       `json:"paths,omitzero"`
	Groups   []string        `json:"groups,omitempty"`
	Emails   map[string]bool `json:"emails,omitempty"`
	Domains  []string        `json:"domains,omitempty"` // with their @
	Hours    *hoursData      `json:"hours,omitzero"`
	Networks []string        `json:"networks,omitempty"`
	StepUp   *Obligation     `json:"step_up,omitzero"`
	Demands  []string        `json:"demands,omitempty"` // of StepUp, in words
}

type pathData struct {
	Exact map[string]bool `json:"exact,omitempty"`
	Below []string        `json:"below,omitempty"` // each ends with a slash
}

type hoursData struct {
	Text     string                 `json:"text"`
	ByHour   map[string][][2]int    `json:"by_hour,omitempty"`   // where all spans begin and end with the hour
	ByMinute map[string][][2]string `json:"by_minute,omitempty"` // otherwise
}

// configFor is the data for apps, of which own have a package of their own.
func configFor(timezone string, apps []App, own map[string]bool) (configData, error) {
	c := configData{Timezone: timezone, Apps: make(map[string]appData, len(apps))}
	if c.Timezone == "" {
		c.Timezone = "UTC"
	}
	for i := range apps {
		a := &apps[i]
		if err := a.Check(); err != nil {
			return c, err
		}
		if _, twice := c.Apps[a.Name]; twice {
			return c, fmt.Errorf("app %s is there twice", a.Name)
		}
		c.Apps[a.Name] = a.data(own[a.Name])
	}
	return c, nil
}

func (a *App) data(own bool) appData {
	d := appData{
		Name:        a.Name,
		Owner:       a.Owner,
		Sensitivity: a.Sensitivity,
		Labels:      a.Labels,
		Own:         own,
		Rules:       make([]ruleData, len(a.Access)),

		ShieldThreshold: a.ShieldThreshold,
		CrossSite:       a.CrossSite,
		ClientCert:      a.ClientCert,
		Providers:       setOf(a.Providers),
	}
	if d.Labels == nil {
		d.Labels = map[string]string{}
	}
	for i := range a.Access {
		d.Rules[i] = a.Access[i].data(i)
	}
	d.Routing = routingOf(d.Rules)
	return d
}

func (r *Rule) data(place int) ruleData {
	d := ruleData{
		ID:      r.id(place),
		Plain:   !r.restricts(),
		Public:  r.Public,
		Methods: methodsData(r.Methods),
		Paths:   pathsData(r.Paths),
		Groups:  sortedSet(r.Groups),
		Emails:  lowerSet(r.Emails),
	}
	for _, domain := range r.Domains {
		d.Domains = append(d.Domains, "@"+strings.ToLower(domain))
	}
	for _, n := range r.Networks {
		d.Networks = append(d.Networks, n.String())
	}
	if r.Hours != nil {
		d.Hours = r.Hours.data()
	}
	if r.signIn() {
		d.StepUp = &Obligation{Type: StepUp, MFA: r.MFA, ACR: r.ACR, MaxAgeS: int64(r.MaxAge / time.Second)}
		d.Demands = r.demands()
	}
	return d
}

// methodsData lets GET include HEAD: what may be read may be asked about (RFC 9110 §9.3.2).
func methodsData(methods []string) map[string]bool {
	set := make(map[string]bool, len(methods)+1)
	for _, m := range methods {
		set[m] = true
		if m == "GET" {
			set["HEAD"] = true
		}
	}
	return set
}

// pathsData lets "/a/b/" cover "/a/b" too: apps serve the two alike, and a rule that closes a folder must close its
// front door.
func pathsData(paths []string) *pathData {
	if len(paths) == 0 {
		return nil
	}
	d := &pathData{Exact: make(map[string]bool)}
	for _, p := range paths {
		if trimmed, folder := strings.CutSuffix(p, "/"); folder {
			d.Below = append(d.Below, p)
			p = trimmed
		}
		if p != "" {
			d.Exact[p] = true
		}
	}
	return d
}

func (h *Hours) data() *hoursData {
	week, err := h.windows()
	if err != nil {
		panic("BUG: unchecked hours: " + err.Error())
	}
	d := &hoursData{Text: h.String()}
	if wholeHours(week) {
		d.ByHour = make(map[string][][2]int)
		for day, windows := range week {
			for _, w := range windows {
				d.ByHour[weekdays[day]] = append(d.ByHour[weekdays[day]], [2]int{w.from / 60, w.to / 60})
			}
		}
		return d
	}
	d.ByMinute = make(map[string][][2]string)
	for day, windows := range week {
		for _, w := range windows {
			d.ByMinute[weekdays[day]] = append(d.ByMinute[weekdays[day]], [2]string{timeOfDay(w.from), timeOfDay(w.to)})
		}
	}
	return d
}

func wholeHours(week [daysPerWeek][]window) bool {
	for _, windows := range week {
		for _, w := range windows {
			if w.from%60 != 0 || w.to%60 != 0 {
				return false
			}
		}
	}
	return true
}

func timeOfDay(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }

func (r *Rule) demands() []string {
	var demands []string
	if r.MFA {
		demands = append(demands, "with more than one factor")
	}
	if len(r.ACR) > 0 {
		demands = append(demands, "with the assurance "+strings.Join(r.ACR, " or "))
	}
	if r.MaxAge > 0 {
		demands = append(demands, "less than "+minutes(r.MaxAge)+" ago")
	}
	return demands
}

func minutes(d time.Duration) string {
	if d == time.Minute {
		return "a minute"
	}
	return strconv.Itoa(int(d/time.Minute)) + " minutes"
}

func sortedSet(ss []string) []string { return slices.Compact(slices.Sorted(slices.Values(ss))) }

func setOf(ss []string) map[string]bool {
	if len(ss) == 0 {
		return nil
	}
	set := make(map[string]bool, len(ss))
	for _, s := range ss {
		set[s] = true
	}
	return set
}

func lowerSet(ss []string) map[string]bool {
	set := make(map[string]bool, len(ss))
	for _, s := range ss {
		set[strings.ToLower(s)] = true
	}
	return set
}
