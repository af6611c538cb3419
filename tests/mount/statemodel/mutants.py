def main(names): raise NotImplementedError
