// A page that is rendered for each request.
export const dynamic = 'force-dynamic'

export default function Page() {
  return <p>{`hello from Next.js, pid ${process.pid}`}</p>
}
