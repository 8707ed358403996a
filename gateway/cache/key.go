package cache

// Scope says who may see an entry.
type Scope uint8

const (
	// Own entries belong to one person, as one set of facts about them was told to the app.
	Own Scope = iota
	// Shared entries belong to all who may open the app: the operator vouched, and the answer said public or s-maxage.
	Shared
	// Free entries were fetched without telling the app who asks.
	Free
)

func (s Scope) String() string { return [...]string{"own", "shared", "free"}[s] }

// Key names the answers to one URL that one partition may see; Vary tells those apart. It knows no method: entries are
// answers to GET, which answer HEAD as well.
type Key struct {
	App    string
	URL    string
	Scope  Scope
	Person string   // Own only
	Told   [32]byte // Own only
}

// key is the viewer's key within a scope.
func (v *Viewer) key(s Scope) Key {
	k := Key{App: v.App, URL: v.URL, Scope: s}
	if s == Own {
		k.Person, k.Told = v.Person, v.Told
	}
	return k
}
