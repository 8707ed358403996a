package apps

import (
	"cmp"
	_ "embed"
	"html"
	"html/template"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed wiki.html
var wikiHTML string

//go:embed wiki.js
var wikiJS []byte

// maxArticle bounds an article, in bytes.
const maxArticle = 32 << 10

// wiki is a wiki in memory: articles with links, editing, and on the side who is here, a chat and the recent changes.
type wiki struct {
	page *page
	hub  *hub
	feed *feed

	mu       sync.Mutex
	articles map[string]article
}

type article struct {
	Title, Text string
	By          string
	At          time.Time
	Edits       int
}

// NewWiki makes the wiki with its first articles. now is the clock of edits.
func NewWiki(gate *Gatekeeper, now func() time.Time) http.Handler {
	w := &wiki{page: newPage("Wiki", "/wiki.js", wikiHTML), hub: newHub(), feed: newFeed(), articles: map[string]article{}}
	for _, a := range firstArticles {
		a.At = now()
		w.articles[slug(a.Title)] = a
		w.feed.add(change{Title: a.Title, By: a.By, At: a.At.Format(time.TimeOnly), URL: "/p/" + slug(a.Title)})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/p/welcome", http.StatusSeeOther) })
	mux.HandleFunc("GET /p/{slug}", gate.admit(w.read))
	mux.HandleFunc("GET /p/{slug}/edit", gate.admit(w.edit))
	mux.HandleFunc("POST /p/{slug}", gate.admit(func(rw http.ResponseWriter, r *http.Request, v *Visitor) { w.save(rw, r, v, now()) }))
	mux.HandleFunc("GET /live", gate.admit(w.hub.serve))
	mux.HandleFunc("GET /events", gate.admit(w.feed.serve))
	mux.HandleFunc("GET /wiki.js", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		rw.Write(wikiJS) // the client may have gone; there is nobody else to tell
	})
	return mux
}

func (w *wiki) read(rw http.ResponseWriter, r *http.Request, v *Visitor) {
	here := r.PathValue("slug")
	a, ok := w.article(here)
	if !ok {
		w.page.show(rw, http.StatusNotFound, "missing", v, map[string]any{"Slug": here, "Contents": w.contents(here)})
		return
	}
	w.page.show(rw, http.StatusOK, "article", v, map[string]any{"Article": a, "Slug": here, "Body": rendered(a.Text), "Contents": w.contents(here)})
}

func (w *wiki) edit(rw http.ResponseWriter, r *http.Request, v *Visitor) {
	here := r.PathValue("slug")
	if here != slug(here) {
		http.NotFound(rw, r)
		return
	}
	a, ok := w.article(here)
	if !ok {
		a.Title = titled(here)
	}
	w.page.show(rw, http.StatusOK, "edit", v, map[string]any{"Article": a, "Slug": here})
}

func (w *wiki) save(rw http.ResponseWriter, r *http.Request, v *Visitor, now time.Time) {
	r.Body = http.MaxBytesReader(rw, r.Body, 2*maxArticle)
	here, text := r.PathValue("slug"), strings.TrimSpace(r.PostFormValue("text"))
	if here != slug(here) || text == "" || len(text) > maxArticle {
		http.Error(rw, "An article needs a plain name and some text, at most 32 KiB.", http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	a, ok := w.articles[here]
	if !ok {
		a.Title = titled(here)
	}
	a.Text, a.By, a.At, a.Edits = text, v.Shown(), now, a.Edits+1
	w.articles[here] = a
	w.mu.Unlock()
	w.feed.add(change{Title: a.Title, By: a.By, At: now.Format(time.TimeOnly), URL: "/p/" + here})
	http.Redirect(rw, r, "/p/"+here, http.StatusSeeOther)
}

func (w *wiki) article(slug string) (article, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.articles[slug]
	return a, ok
}

type entry struct {
	Title, Slug string
	Current     bool
}

func (w *wiki) contents(here string) []entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []entry
	for s, a := range w.articles {
		list = append(list, entry{a.Title, s, s == here})
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.Title, b.Title) })
	return list
}

var wikiLink = regexp.MustCompile(`\[\[([^\[\]]{1,80})\]\]`)

// rendered turns blank lines into paragraphs, lines that start with "- " into lists and [[Title]] into links.
func rendered(text string) template.HTML {
	var b strings.Builder
	for block := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		isList := !slices.ContainsFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "- ") })
		if isList {
			b.WriteString("<ul>")
			for _, l := range lines {
				b.WriteString("<li>" + linked(l[2:]) + "</li>")
			}
			b.WriteString("</ul>")
			continue
		}
		b.WriteString("<p>" + strings.Join(strings.Split(linked(strings.Join(lines, "\n")), "\n"), "<br>") + "</p>")
	}
	return template.HTML(b.String())
}

func linked(text string) string {
	return wikiLink.ReplaceAllStringFunc(html.EscapeString(text), func(link string) string {
		title := strings.Trim(link, "[]")
		return `<a href="/p/` + slug(html.UnescapeString(title)) + `">` + title + `</a>`
	})
}

var notPlain = regexp.MustCompile(`[^a-z0-9]+`)

func slug(title string) string {
	return strings.Trim(notPlain.ReplaceAllString(strings.ToLower(title), "-"), "-")
}

// titled makes a title of a slug that [slug] made.
func titled(slug string) string {
	text := strings.ReplaceAll(slug, "-", " ")
	return strings.ToUpper(text[:1]) + text[1:]
}

var firstArticles = []article{
	{Title: "Welcome", By: "Mira Sol", Text: `Harbour Works keeps what everybody should know in this wiki. Anyone on the staff may change a page; contractors may read.

- New here? Start with [[First day]].
- Something is on fire? See [[Runbook: the crane controller]].
- Where do the numbers come from? [[Quarter close]].

You came here through the gateway: it knew who you are before this app saw your request, and wrote the decision down.`},
	{Title: "First day", By: "Ines Okafor", Text: `Get your badge at the gatehouse, your laptop in room 12 and coffee on the second floor.

- Lunch is at noon, in the old boat shed.
- Your first pull request is due on Friday; pick something small.
- Ask in the chat on the right: somebody is usually there.

Back to [[Welcome]].`},
	{Title: "Runbook: the crane controller", By: "Tomas Rivera", Text: `The controller restarts by itself. If it does not:

- Press the red button, and keep your hands where you can see them.
- Call the duty engineer before you touch the second cabinet.
- Write down what you saw in [[Incident notes]].`},
	{Title: "Quarter close", By: "Ravi Menon", Text: `Books close on the fifth working day. Reports are under Payroll, for those who may open it; everybody else finds the summary here a week later.

See also [[Welcome]].`},
}
